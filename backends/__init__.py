"""The targets that qspinn ships, installed as `qspinn.backends`."""
