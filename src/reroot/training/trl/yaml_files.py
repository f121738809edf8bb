"""Settings in a YAML file, read strictly: what its reader would pass over in silence is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ...errors import InvalidInput, need


def read_yaml(file: Path) -> dict[str, Any]:
    """What a YAML file maps (``InvalidInput``: it is none, or maps nothing)."""
    need("train", "yaml")
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        found = yaml.safe_load(text)
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ValueError("aliases (*name) have no use in settings")  # written out: gigabytes
        _check_names(yaml.compose(text, yaml.SafeLoader))
    except OSError as error:
        raise InvalidInput(f"can't read {file}: {error.strerror}") from None
    except RecursionError:
        raise InvalidInput(f"{file} is nested too deep for settings") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not UTF-8: {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # such as a date that does not exist
        raise InvalidInput(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{file} must map names to values, got {found!r:.200}")
    return found


def _check_names(node: Any) -> None:
    """``ValueError``: a name is given twice somewhere; YAML's reader would take the last."""
    if node is None or isinstance(node.value, str):
        return
    inside = node.value
    if node.id == "mapping":
        names = [(key.tag, key.value) for key, _ in node.value if isinstance(key.value, str)]
        for (_, name), count in Counter(names).items():
            if count > 1:
                raise ValueError(f"{name!r} is given {count} times")
        inside = [value for _, value in node.value]
    for value in inside:
        _check_names(value)
