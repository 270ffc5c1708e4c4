"""Home Assistant in this process, asked through stdin and stdout. It runs in the tree of home_assistant.py.

A line is a JSON list, `[command, *arguments]`; the answer is one line of JSON. At the start it prints `"ready"`.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from homeassistant.bootstrap import async_setup_hass
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry, entity_registry
from homeassistant.runner import RuntimeConfig

STATE_CHANGES: dict[str, list[str]] = {}
"""Entity → its states, in order; `removed` where it left."""


def states(hass: HomeAssistant) -> dict[str, dict[str, Any]]:
    """Return each entity's state and attributes."""
    return {one.entity_id: {"state": one.state, "attributes": dict(one.attributes)} for one in hass.states.async_all()}


def changes(_: HomeAssistant, entity: str) -> list[str]:
    """Return the states that an entity had."""
    return STATE_CHANGES.get(entity, [])


def entities(hass: HomeAssistant, unique_id: str) -> list[str]:
    """Return the registered entities with that unique id; there may be one for each domain."""
    known = entity_registry.async_get(hass).entities.values()
    return [one.entity_id for one in known if one.platform == "mqtt" and one.unique_id == unique_id]


def devices(hass: HomeAssistant) -> list[dict[str, Any]]:
    """Return the registered devices."""
    found = device_registry.async_get(hass)
    return [
        {
            "name": one.name, "manufacturer": one.manufacturer, "connections": sorted(map(list, one.connections)),
            "identifiers": sorted(map(list, one.identifiers)),
            "via": parent.name if one.via_device_id and (parent := found.async_get(one.via_device_id)) else None,
        }
        for one in found.devices
    ]  # fmt: skip


def rename(hass: HomeAssistant, entity: str, new: str, name: str) -> None:
    """Give an entity another id and name, as its user does."""
    entity_registry.async_get(hass).async_update_entity(entity, new_entity_id=new, name=name)


async def call(hass: HomeAssistant, domain: str, service: str, values: dict[str, Any]) -> None:
    """Call a service, to its end."""
    await hass.services.async_call(domain, service, values, blocking=True)


COMMANDS: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (states, changes, entities, devices, rename, call)
}


async def main(folder: str) -> None:
    """Start Home Assistant with the configuration in `folder`, and answer until stdin ends."""
    hass = await async_setup_hass(RuntimeConfig(config_dir=folder, skip_pip=True))
    assert hass is not None and not hass.config.recovery_mode, "Home Assistant does not start: see its log"

    def on_change(event: Any) -> None:  # noqa: ANN401
        state = new.state if (new := event.data["new_state"]) else "removed"
        had = STATE_CHANGES.setdefault(event.data["entity_id"], [])
        if had[-1:] != [state]:
            had.append(state)

    hass.bus.async_listen("state_changed", callback(on_change))  # at once, and in order
    await hass.async_start()
    print(json.dumps("ready"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, *arguments = json.loads(line)
        answer = COMMANDS[name](hass, *arguments)
        if asyncio.iscoroutine(answer):
            answer = await answer
        print(json.dumps(answer, default=str), flush=True)
    await hass.async_stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
