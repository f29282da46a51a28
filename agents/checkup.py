"""What is installed, what this machine can compute on, which keys there are, and which profiles would work.

Looks and says; changes nothing, connects nowhere, and never shows a key. The environment is handed in.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from agents.calibration import Rate, Uncalibrated, belief_in, calibrations
from agents.critic import CriticOptions, digest_of
from agents.errors import ProfileError, UsageError
from agents.profile import Profile, load_profile, profile_names
from generators.backends import BACKENDS, bundled_folder
from generators.devices import devices
from generators.errors import BackendUnavailable
from generators.video import ffmpeg_version, find_ffmpeg

PACKAGES = ("torch", "diffusers", "transformers", "langgraph", "openai", "sqlmodel", "av")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at. `needed` things must be fine for the bundled profile to work."""

    name: str
    fine: bool
    says: str
    needed: bool = False


@dataclass(frozen=True, kw_only=True)
class Checkup:
    """Everything that was looked at."""

    installed: tuple[Finding, ...]
    machine: tuple[Finding, ...]
    keys: tuple[Finding, ...]
    profiles: tuple[Finding, ...]
    critics: tuple[Finding, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether everything needed is there."""
        return all(f.fine for _, findings in self.sections() for f in findings if f.needed)

    def sections(self) -> tuple[tuple[str, tuple[Finding, ...]], ...]:
        """The findings under their titles."""
        return (
            ("Installed", self.installed),
            ("This machine", self.machine),
            ("Keys (never shown)", self.keys),
            ("Profiles", self.profiles),
            ("Critics, and what their verdicts are worth", self.critics),
        )


def look(home: Path, environment: Mapping[str, str]) -> Checkup:
    """Look at everything; loads torch, so it takes a second or two."""
    profiles = dict(_profiles())
    loaded = [profile for profile in profiles.values() if isinstance(profile, Profile)]
    installed = tuple(_installed())
    lacking = [f"{found.name} (above)" for found in installed if not found.fine]
    names = sorted({profile.brains.key_env for profile in loaded if profile.needs_endpoint})
    return Checkup(
        installed=installed,
        machine=(*_machine(), _home(home)),
        keys=tuple(_key(name, environment) for name in names),
        profiles=tuple(_profile(name, profile, environment, lacking) for name, profile in profiles.items()),
        critics=tuple(_critics(loaded)),
    )


def _installed() -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding(name="python", fine=sys.version_info >= (3, 11), says=version, needed=True)
    for package in PACKAGES:
        try:
            yield Finding(name=package, fine=True, says=metadata.version(package), needed=True)
        except metadata.PackageNotFoundError:
            yield Finding(name=package, fine=False, says="missing; pip install -e .", needed=True)
    try:
        path = find_ffmpeg()
        yield Finding(name="ffmpeg", fine=True, says=f"{ffmpeg_version(path)} at {path}", needed=True)
    except BackendUnavailable as error:
        yield Finding(name="ffmpeg", fine=False, says=str(error), needed=True)


def _machine() -> Iterator[Finding]:
    try:
        for device in devices():
            yield Finding(name=device.name, fine=True, says=device.says)
    except ImportError as error:
        yield Finding(name="devices", fine=False, says=f"torch cannot be loaded: {error}", needed=True)


def _home(home: Path) -> Finding:
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    fine = there.is_dir() and os.access(there, os.W_OK)
    says = str(home) if fine else f"{home} cannot be written; name another with --home or FABULA_HOME"
    return Finding(name="home", fine=fine, says=says, needed=True)


def _key(name: str, environment: Mapping[str, str]) -> Finding:
    there = bool(environment.get(name))
    return Finding(name=name, fine=there, says="set" if there else "not set; profiles with an endpoint may need it")


def _profiles() -> Iterator[tuple[str, Profile | ProfileError]]:
    for name in profile_names():
        try:
            yield name, load_profile(name, backends=BACKENDS)
        except ProfileError as error:
            yield name, error


def _profile(
    name: str, profile: Profile | ProfileError, environment: Mapping[str, str], lacking: Sequence[str]
) -> Finding:
    needed = name == "bundled"
    if isinstance(profile, ProfileError):
        return Finding(name=name, fine=False, says=str(profile), needed=needed)
    wanting = [*lacking, *_lacking(profile, environment)]
    says = "; ".join(wanting) if wanting else profile.description
    return Finding(name=name, fine=not wanting, says=says, needed=needed)


def _critics(profiles: Sequence[Profile]) -> Iterator[Finding]:
    """Every calibration there is, then every profile's vision model that has none for the way it is asked."""
    try:
        known = list(calibrations())
    except UsageError as error:
        yield Finding(name="calibrations", fine=False, says=str(error))
        return
    for one in known:
        row = one.held_out
        found = f"sees {_share(row.recall)} of what happens, takes {_share(row.false_acceptance)} of broken promises "
        found += f"for kept; threshold {one.threshold:g}, measured on {one.clips} clips"
        yield Finding(name=one.critic, fine=one.trusted, says=found)
    for profile in profiles:
        if profile.critic.kind == "endpoint":
            options = CriticOptions(votes=profile.critic.votes, most_frames=profile.critic.most_frames)
            belief = belief_in(profile.brains.models.of("critic"), digest_of(options.how()))
            if isinstance(belief, Uncalibrated):
                yield Finding(name=profile.name, fine=False, says=belief.reason)


def _share(rate: Rate) -> str:
    return "an unknown share" if rate.value is None else f"{rate.value:.0%}"


def _lacking(profile: Profile, environment: Mapping[str, str]) -> Iterator[str]:
    """What a profile needs and does not find, without opening a model or a connection."""
    if profile.backend.kind == "bundled" and not profile.backend.model:
        try:
            bundled_folder()
        except BackendUnavailable as error:
            yield str(error)
    if profile.backend.kind == "local" and not profile.backend.model:
        yield "name a model with --model PATH_OR_ID"
    if profile.needs_endpoint and not environment.get(profile.brains.key_env):
        yield f"{profile.brains.key_env} is not set (a local server may not need it)"
