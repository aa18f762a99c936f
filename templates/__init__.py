"""The files that the targets fill in or copy, installed as `qspinn.templates`."""
