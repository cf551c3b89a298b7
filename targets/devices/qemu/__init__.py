"""An emulated aarch64 machine: its userland made once for the user, its CPUs, its counts."""
