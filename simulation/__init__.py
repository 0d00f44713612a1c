"""The whole pipeline from one seed: virtual time, an in-process log, faults, and judges."""
