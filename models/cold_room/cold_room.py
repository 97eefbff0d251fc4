"""Temperatures of cold rooms, sound ones and faulty ones: what the model is taught and measured on.

A compressor cools and rests, so the air follows a triangle, as in the plant of `outpost demo`; period, swing, duty,
noise and short openings of the door vary from room to room. A sample is taken every STEP_S seconds.
"""

import numpy as np

STEP_S = 30
LENGTH = 64
FAULTS = ("door_open", "compressor_stopped", "short_cycling", "iced_evaporator", "loose_sensor")


def room(rng):
    """How one cold room behaves when it is sound."""
    return {
        "level": rng.uniform(-24.0, 6.0),
        "period_s": rng.uniform(720.0, 1320.0),
        "swing": rng.uniform(0.7, 1.8),
        "duty": rng.uniform(0.35, 0.65),
        "noise": rng.uniform(0.03, 0.12),
        "phase": rng.uniform(0.0, 1.0),
    }


def triangle(phase, duty):
    """0 to 1 and back: it warms for `duty` of the period and is cooled for the rest."""
    phase = phase % 1.0
    return np.where(phase < duty, phase / duty, (1.0 - phase) / (1.0 - duty))


def sound(rng, n, of):
    """n samples of a sound room, with a visit now and then that warms the air for some minutes."""
    t = np.arange(n) * STEP_S
    x = of["level"] + of["swing"] * triangle(t / of["period_s"] + of["phase"], of["duty"])
    for _ in range(rng.poisson(n * STEP_S / 7200.0)):
        at, warmth = rng.uniform(0, n * STEP_S), rng.uniform(0.2, 0.8)
        x = x + np.where(t >= at, warmth * np.exp(-(t - at) / 240.0), 0.0)
    return x + rng.normal(0.0, of["noise"], n)


def faulty(rng, n, of, fault):
    """n samples of the same room with one fault from the first sample on."""
    t = np.arange(n) * STEP_S
    if fault == "door_open":
        return sound(rng, n, of) + rng.uniform(3.0, 8.0) * (1.0 - np.exp(-t / rng.uniform(600.0, 1200.0)))
    if fault == "compressor_stopped":
        return of["level"] + rng.uniform(3.0, 8.0) * t / 3600.0 + rng.normal(0.0, of["noise"], n)
    if fault == "short_cycling":
        return sound(rng, n, {**of, "period_s": rng.uniform(120.0, 260.0), "swing": rng.uniform(0.5, 1.0)})
    if fault == "iced_evaporator":
        slower, wider = rng.uniform(2.0, 3.0), rng.uniform(1.8, 2.6)
        return sound(rng, n, {**of, "period_s": slower * of["period_s"], "swing": wider * of["swing"]})
    jumps = (rng.random(n) < rng.uniform(0.04, 0.15)) * rng.normal(0.0, 2.5, n)
    return sound(rng, n, of) + jumps


def windows(rng, count, fault=None):
    """[count, LENGTH] windows, each of a room of its own, without their mean: the level is what limits are for."""
    rows = []
    for _ in range(count):
        of = room(rng)
        x = sound(rng, LENGTH, of) if fault is None else faulty(rng, LENGTH, of, fault)
        rows.append(x - x.mean())
    return np.array(rows, np.float32)


def recording(rng, hours, fault_from_h, fault):
    """A recording of one room of the demo's size: time in seconds and temperature; the fault begins in the middle."""
    of = {"level": -20.5, "period_s": 900.0, "swing": 1.2, "duty": 0.5, "noise": 0.08, "phase": 0.0}
    n, at = hours * 3600 // STEP_S, fault_from_h * 3600 // STEP_S
    x = sound(rng, n, of)
    x[at:] = faulty(rng, n - at, of, fault)
    return np.arange(n) * STEP_S, np.round(x, 2)
