"""Which versions make room for others to go back to, and which descent is known whole."""

from collections.abc import Sequence

from exchange.manifests import Manifest


def passed_over(sound: Sequence[Manifest]) -> set[int]:
    """Of versions, newest first, the numbers of those that nobody would go back to.

    A fast one, once two consolidated ones are newer. And, from then on, a consolidated one whose neighbours know the
    same tasks, so that it differs from them by corrections and by what classes are called only: otherwise many of
    these, each with a version of its own, would push out everything from the time before them.
    """
    consolidated = [manifest for manifest in sound if manifest.kind == "consolidated"]
    second = consolidated[1].version if len(consolidated) > 1 else 0
    found = {m.version for m in sound if m.kind == "fast" and m.version < second}
    for newer, own, older in zip(consolidated[1:], consolidated[2:], consolidated[3:], strict=False):
        if newer.consolidated == own.consolidated == older.consolidated:
            found.add(own.version)
    return found


def is_complete(lineage: Sequence[Manifest]) -> bool:
    """Whether a version's descent ends where nothing came before, or at a consolidated version."""
    return bool(lineage) and (lineage[-1].kind == "consolidated" or lineage[-1].below is None)
