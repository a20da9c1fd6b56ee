import pytest

from opml import cli, errors


class Module:
    """A sub-command that does what the test says."""

    def __init__(self, act):
        self.act = act

    def add_arguments(self, parser):
        parser.add_argument("--number", type=int, default=0)

    def run(self, args):
        return self.act(args)


@pytest.fixture
def command(monkeypatch):
    def install(act):
        monkeypatch.setattr(cli, "COMMANDS", (cli.Command("do", "does it", "a.module"),))
        monkeypatch.setattr(cli.importlib, "import_module", {"a.module": Module(act)}.__getitem__)

    return install


def fail(error):
    def act(_args):
        raise error

    return act


def test_a_commands_exit_status_is_handed_on(command):
    command(lambda args: args.number)
    assert cli.main(["do", "--number", "7"]) == 7


def test_nothing_returned_is_success(command):
    command(lambda args: None)
    assert cli.main(["do"]) == 0


@pytest.mark.parametrize(("error", "code"), [(errors.BadInput("bad value 3"), 2), (errors.LocalAwsError("bad value 3"), 1)])
def test_an_error_on_purpose_is_one_sentence_and_its_exit_code(command, capsys, error, code):
    command(fail(error))
    assert cli.main(["do"]) == code
    assert capsys.readouterr().err == "opml: bad value 3\n"


def test_ctrl_c_is_130(command):
    command(fail(KeyboardInterrupt()))
    assert cli.main(["do"]) == 130


def test_a_programming_error_is_not_hidden(command):
    command(fail(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["do"])


def test_every_command_of_the_table_can_be_asked_for_help(capsys):
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit) as end:
            cli.main([command.name, "--help"])
        assert end.value.code == 0 and command.help[:20] in capsys.readouterr().out
