from typing import Any, Final, final

from intarraymap._owner import Owner

FILL_COUNT: Final = 33

@final
class Ticket:
    def progress(self) -> tuple[int, int]: ...
    def cancel(self) -> None: ...

def write_image(owner: Owner[Any], descriptor: int, seed: int, ticket: Ticket) -> bool: ...
def open_image(
    new: Owner[Any],
    descriptor: int,
    byte_count: int,
    seed: int,
    blocks: bool,
    whole: bool,
    writable: bool,
    copied: bool,
) -> None: ...
def read_info(descriptor: int, byte_count: int) -> dict[str, int]: ...
def fill(owner: Owner[Any]) -> list[int]: ...
