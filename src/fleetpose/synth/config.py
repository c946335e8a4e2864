"""What the user may choose about the pictures; checked at construction."""

from __future__ import annotations

from dataclasses import dataclass

from fleetpose.errors import ConfigError, UnknownNameError

SCENES = ("panorama", "room", "street", "photo")
MAX_PEOPLE = 30
MAX_SIDE = 4096


@dataclass(frozen=True, slots=True)
class SynthConfig:
    """Settings shared by all pictures of a data set; together with a picture's seed they fix every pixel.

    size: (H, W) pixels. people: fewest and most per picture. mean_people: mean of the draw between them.
    scenes: kinds to draw from. actions: motion tags to draw from, empty for all. panoramas: names, empty for
    all.
    occluders: share of pictures with something in front. supersample: shading resolution over picture
    resolution.
    person_px: lowest and highest target height of the first person in pixels of a 512-pixel-high picture.
    close_ups: share of pictures whose first person is taller than the picture, aimed at chest or face.
    held: share of people with something in a hand. clutter: share of panoramas with things standing about.
    motion_blur: share of people who move while the picture is taken; those who run or dance do so more often.
    """

    size: tuple[int, int] = (512, 512)
    people: tuple[int, int] = (1, 8)
    mean_people: float = 2.7
    scenes: tuple[str, ...] = SCENES
    actions: tuple[str, ...] = ()
    panoramas: tuple[str, ...] = ()
    occluders: float = 0.25
    adults_only: bool = False
    supersample: float = 1.5
    person_px: tuple[float, float] = (60.0, 1300.0)
    close_ups: float = 0.2
    held: float = 0.25
    clutter: float = 0.3
    motion_blur: float = 0.08
    plain_sensor: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that cannot be drawn."""
        low, high = self.people
        for scene in self.scenes:
            if scene not in SCENES:
                raise UnknownNameError("scene", scene, SCENES)
        demands = (
            (
                all(32 <= side <= MAX_SIDE for side in self.size),
                f"size must be between 32 and {MAX_SIDE} pixels a side, but got {self.size}",
            ),
            (
                1 <= low <= high <= MAX_PEOPLE,
                f"people must be 1 <= fewest <= most <= {MAX_PEOPLE}, but got {low} and {high}",
            ),
            (
                low <= self.mean_people <= high,
                f"mean_people must lie between {low} and {high}, but got {self.mean_people}",
            ),
            (bool(self.scenes), f"scenes must name at least one of {', '.join(SCENES)}"),
            *(
                (0 <= value <= 1, f"{name} must be a share from 0 to 1, but got {value}")
                for name, value in self.shares().items()
            ),
            (
                1 <= self.supersample <= 3,
                f"supersample must be between 1 and 3, but got {self.supersample}",
            ),
            (
                16 <= self.person_px[0] <= self.person_px[1] <= 4000,
                f"person_px must be 16 <= low <= high <= 4000, but got {self.person_px}",
            ),
        )
        for is_met, message in demands:
            if not is_met:
                raise ConfigError(message)

    def shares(self) -> dict[str, float]:
        """Name and value of the settings that are shares."""
        names = ("occluders", "close_ups", "held", "clutter", "motion_blur")
        return {name: getattr(self, name) for name in names}
