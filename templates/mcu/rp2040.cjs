/* Runs an image in the emulator rp2040js: files through Arm's semihosting calls, and a line for
   every mark of time, with the cycles up to it.

   node rp2040.cjs RP2040JS IMAGE CYCLES */
"use strict";
const fs = require("fs");
const [library, image, cycles] = process.argv.slice(2);
const { RP2040 } = require(library);

const FLASH = 0x10000000, RAM = 0x20000000, MARKS = 0x40058;
const OPEN = 0x01, CLOSE = 0x02, WRITE = 0x05, READ = 0x06, EXIT = 0x20;

const chip = new RP2040();
const core = chip.core;
const marks = [];
const fail = (part, what) => {
  throw new Error(`${part}: ${what} at 0x${core.PC.toString(16)}`);
};
chip.logger = { debug() {}, info() {}, warn: fail, error: fail };
chip.peripherals[MARKS] = {
  readUint32: () => 0,
  writeUint32Atomic: (at, value) => marks.push(`${value} ${core.cycles}`),
};
chip.flash.fill(0xff);
chip.flash.set(fs.readFileSync(image));

const word = (at) => chip.readUint32(at) >>> 0;
const memory = (at, size) => {
  const place = at >= RAM ? chip.sram.subarray(at - RAM) : chip.flash.subarray(at - FLASH);
  if (at < FLASH || size > place.length) fail("semihosting", `0x${at.toString(16)} is no memory`);
  return place.subarray(0, size);
};

const calls = {
  [OPEN](block) {
    const name = Buffer.from(memory(word(block), word(block + 8))).toString();
    return fs.openSync(name, word(block + 4) < 4 ? "r" : "w");
  },
  [CLOSE]: (block) => (fs.closeSync(word(block)), 0),
  [WRITE]: (block) => {
    const bytes = memory(word(block + 4), word(block + 8));
    return bytes.length - fs.writeSync(word(block), bytes);
  },
  [READ]: (block) => {
    const bytes = memory(word(block + 4), word(block + 8));
    return bytes.length - fs.readSync(word(block), bytes);
  },
  [EXIT]: (block) => {
    fs.writeFileSync(cycles, marks.join("\n"));
    process.exit(word(block + 4));
  },
};
chip.onBreak = () => {
  const call = calls[core.registers[0]] ?? fail("semihosting", `no call ${core.registers[0]}`);
  core.registers[0] = call(core.registers[1]);
};

core.VTOR = FLASH;
core.SP = word(FLASH);
core.PC = word(FLASH + 4) & ~1;
for (;;) core.executeInstruction();
