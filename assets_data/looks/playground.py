"""A playground about the person: a sandpit, a swing, a slide, a fence and trees.

`build` is called with the place and with the module of what places are built from (`paint`, `glow`, `_tree` and so on). Metres, z up; the
person stands in the middle, on z = 0. All that is random comes from `place.chance`, so that the same seed gives the same playground.
"""

import math


def build(place, sets):
    """Add everything, further than 2 m from the middle, where people move."""
    chance = place.chance
    colours = ((0.45, 0.06, 0.05), (0.05, 0.16, 0.42), (0.50, 0.36, 0.04), (0.06, 0.28, 0.12))
    bright = [place.material(sets.paint("bright", c, contrast=0.1)) for c in colours]
    wood = place.material(sets.paint("wood", (0.32, 0.20, 0.11), None, "stripes", 2.0, 0.35))
    sand = place.material(sets.paint("sand", (0.50, 0.42, 0.28), None, "noise", 5.0, 0.6))
    leaf = place.material(sets.paint("leaf", (0.05, 0.13, 0.03), (0.14, 0.25, 0.06), "noise", 3, 1.2))  # fmt: skip
    trunk = place.material(sets.paint("trunk", (0.11, 0.08, 0.055), None, "noise", 6, 0.8))
    turn = chance.uniform(0, 2 * math.pi)

    def at(angle, away):
        return away * math.cos(turn + angle), away * math.sin(turn + angle)

    sandpit(place, at(0.0, 3.4), sand, wood)
    swing(place, at(1.6, 3.3), math.degrees(turn + 1.6) + 90, bright, wood)
    slide(place, at(3.2, 3.2), math.degrees(turn + 3.2) + 90, bright)
    for k in range(5):
        x, y = at(4.2 + 0.35 * k, 3.0 + 0.25 * (k % 2))
        place.cylinder(0.22, 0.18 + 0.12 * (k % 3), (x, y, 0.0), bright[k % 4])
    for k in range(40):
        x, y = 9.5 * math.cos(2 * math.pi * k / 40), 9.5 * math.sin(2 * math.pi * k / 40)
        place.box((1.45, 0.05, 0.09), (x, y, 0.75), wood, 360 * k / 40 + 90)
        place.box((1.45, 0.05, 0.09), (x, y, 0.35), wood, 360 * k / 40 + 90)
        place.box((0.09, 0.09, 0.95), (x, y, 0.0), wood, 360 * k / 40 + 90)
    for _ in range(14):
        away, angle = chance.uniform(12, 26), chance.uniform(0, 2 * math.pi)
        tree(place, (away * math.cos(angle), away * math.sin(angle)), trunk, leaf)


def sandpit(place, at, sand, wood):
    """A square of sand between boards."""
    place.box((1.8, 1.8, 0.08), (*at, 0.0), sand)
    for side in range(4):
        across, up = (1.9, 0.1) if side % 2 else (0.1, 1.9)
        x = at[0] + (0.95, 0.0, -0.95, 0.0)[side]
        y = at[1] + (0.0, 0.95, 0.0, -0.95)[side]
        place.box((across, up, 0.2), (x, y, 0.0), wood)


def swing(place, at, degrees, bright, wood):
    """Two posts, a beam, and a seat on two chains."""
    angle = math.radians(degrees)
    along = math.cos(angle), math.sin(angle)
    for side in (-1, 1):
        place.box((0.1, 0.1, 2.2), (at[0] + side * along[0], at[1] + side * along[1], 0.0), bright[0], degrees)  # fmt: skip
        hang = 0.22 * side
        place.box((0.02, 0.02, 1.72), (at[0] + hang * along[0], at[1] + hang * along[1], 0.48), wood, degrees)  # fmt: skip
    place.box((2.1, 0.1, 0.1), (*at, 2.2), bright[0], degrees)
    place.box((0.5, 0.22, 0.04), (*at, 0.46), bright[2], degrees)


def slide(place, at, degrees, bright):
    """A ladder, a platform, and a chute in steps so short that it looks like one."""
    angle = math.radians(degrees)
    along = math.cos(angle), math.sin(angle)
    place.box((0.7, 0.6, 0.06), (*at, 1.4), bright[1], degrees)
    for step in range(5):
        place.box((0.06, 0.6, 0.04), (at[0] - 0.35 * along[0], at[1] - 0.35 * along[1], 0.25 + 0.25 * step), bright[3], degrees)  # fmt: skip
    for side in (-1, 1):
        x, y = at[0] - 0.28 * side * along[1], at[1] + 0.28 * side * along[0]
        place.box((0.06, 0.06, 1.9), (x, y, 0.0), bright[1], degrees)
    for step in range(24):
        away = 0.35 + 0.075 * step
        place.box((0.09, 0.5, 0.05), (at[0] + away * along[0], at[1] + away * along[1], 1.38 - 0.056 * step), bright[2], degrees)  # fmt: skip


def tree(place, at, trunk, leaf):
    """A trunk, and balls of leaves."""
    height = float(place.chance.uniform(2.2, 3.4))
    place.cylinder(0.16, height + 1.0, (*at, 0.0), trunk, top=0.08)
    for _ in range(8):
        x, y = place.chance.normal(size=2) * 0.9
        z = height + float(place.chance.uniform(0.2, 2.4))
        place.blob(float(place.chance.uniform(0.7, 1.2)), (at[0] + x, at[1] + y, z), leaf, 0.4)
