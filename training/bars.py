"""Bars and aims: what a measuring command promises, said the same way everywhere."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """A measured value, the target it must hold, and the one that would be better still."""

    name: str
    value: float
    target: float
    aim: float | None = None
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the target is held."""
        return self._reaches(self.target)

    def _reaches(self, target: float) -> bool:
        return self.value <= target if self.at_most else self.value >= target

    def lines(self) -> list[str]:
        """`bar NAME VALUE TARGET holds|falls short`, then the aim where there is one."""
        lines = [f"bar {self.name} {self.value:.4f} {self.target} {'holds' if self.holds else 'falls short'}"]
        if self.aim is not None:
            reached = "reached" if self._reaches(self.aim) else "short"
            lines.append(f"aim {self.name} {self.value:.4f} {self.aim} {reached}")
        return lines
