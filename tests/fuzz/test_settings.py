"""Settings: any nested values give a config, or an error that names the field."""

import dataclasses
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.commands.launch import parse_command_line
from codegraph_jax.commands.registry import COMMANDS
from codegraph_jax.config import Config, InspectConfig
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.settings import ConfigError, read_config, settings_of
from contrastive_jax.config import OeclConfig
from tests.support.damage import BUDGET, JSON

VALUES = JSON | st.tuples(JSON) | st.binary(max_size=3) | st.sampled_from([10**400, -(10**400), object(), 1j])


def fields(cls, where=()):
    """Paths of all fields of a config, groups included."""
    for field in dataclasses.fields(cls):
        yield (*where, field.name)
        if dataclasses.is_dataclass(field.default_factory):
            yield from fields(field.default_factory, (*where, field.name))


def changed(values, path, value):
    *groups, last = path
    for group in groups:
        if not isinstance(values.get(group), dict):
            return
        values = values[group]
    values[last] = value


@pytest.mark.parametrize("cls", [Config, InspectConfig, OeclConfig])
@BUDGET
@given(data=st.data())
def test_any_values_are_a_config_or_an_error(cls, data):
    known = st.sampled_from(sorted(fields(cls)))
    unknown = st.tuples(st.text(max_size=8) | st.integers() | st.none())
    values = dataclasses.asdict(cls())
    for path, value in data.draw(st.lists(st.tuples(known | unknown, VALUES), max_size=4)):
        changed(values, path, value)
    try:
        assert isinstance(read_config(cls, values), cls)
    except ConfigError as error:
        assert str(error).startswith("config.")


@BUDGET
@given(st.sampled_from([setting.path for setting in settings_of(Config)]), st.text(max_size=20))
def test_any_text_on_the_command_line_is_a_config_or_an_error(path, text):
    with suppress(UserError):  # launch prints it in one line
        assert isinstance(parse_command_line([f"--config.{path}={text}"], COMMANDS["detect"]).config, Config)
