"""Parts with their memory; ``generic`` is any core with room for all.

The sizes of stm32c011, stm32g071, stm32h743, stm32u585 and the RAM of ch32v203 were checked against
public sources. The others were written down from memory of the documents named and await that.
"""

from __future__ import annotations

from qspinn.memory import Device

KIB = 1024
GENERIC = "generic"


def _part(name: str, core: str, ram: int, flash: int, source: str, note: str = "") -> Device:
    return Device(name, {"ram": ram * KIB, "flash": flash * KIB}, core, note, source)


DEVICES = {
    device.name: device
    for device in (
        Device(
            GENERIC,
            {"ram": 1 << 26, "flash": 1 << 26},
            "cortex-m4",
            "no part: 64 MiB of each, sizes as on a Cortex-M4",
        ),
        _part("stm32c011", "cortex-m0plus", 6, 32, "ST DS13866: STM32C011x4/x6"),
        _part("stm32f030x4", "cortex-m0", 4, 16, "ST DS9773: STM32F030x4"),
        _part("stm32f030x8", "cortex-m0", 8, 64, "ST DS9773: STM32F030x8"),
        _part("stm32g071xb", "cortex-m0plus", 36, 128, "ST DS12232: STM32G071xB"),
        _part("samd21g18", "cortex-m0plus", 32, 256, "Microchip DS40001882: SAM D21x18"),
        _part(
            "rp2040", "cortex-m0plus", 264, 2048, "Raspberry Pi RP2040 data sheet",
            "flash outside the chip, read through a cache; 2 MiB as on the Pico",
        ),
        _part("stm32f103xb", "cortex-m3", 20, 128, "ST DS5319: STM32F103xB"),
        _part("stm32f411xe", "cortex-m4", 128, 512, "ST DS10314: STM32F411xE"),
        _part(
            "stm32l476xg", "cortex-m4", 96, 1024, "ST DS10198: STM32L476xG",
            "SRAM1; another 32 KiB (SRAM2) lie elsewhere",
        ),
        _part("nrf52840", "cortex-m4", 256, 1024, "Nordic nRF52840 product specification"),
        _part(
            "stm32h743xi", "cortex-m7", 128, 2048, "ST DS12110: STM32H743xI",
            "DTCM; another 864 KiB of RAM lie elsewhere",
        ),
        _part("nrf5340-app", "cortex-m33", 512, 1024, "Nordic nRF5340 product specification"),
        _part("stm32u585xi", "cortex-m33", 768, 2048, "ST DS13086: STM32U585xI", "without SRAM4"),
        _part(
            "esp32c3", "rv32imc", 400, 4096, "Espressif ESP32-C3 data sheet",
            "flash outside the chip, read through a cache; 4 MiB as on most modules",
        ),
        _part("ch32v203c8", "rv32imc", 20, 64, "WCH CH32V203 data sheet: CH32V203C8"),
    )
}  # fmt: skip
