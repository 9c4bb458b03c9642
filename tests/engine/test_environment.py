import subprocess

from research.engine.environment import git_revision


def test_git_revision_says_whether_the_code_is_that_of_the_commit(tmp_path):
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")

    def git(*arguments):
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    assert git_revision(tmp_path) is None
    git("init", "--quiet")
    assert git_revision(tmp_path) is None, "no commit yet"
    (tmp_path / "code.py").write_text("1")
    git("add", "code.py")
    git("commit", "--quiet", "--no-verify", "-m", "code")
    committed = git_revision(tmp_path)
    assert len(committed["revision"]) == 40
    assert not committed["dirty"]
    (tmp_path / "RESULTS.md").write_text("what a run before this one gave")
    assert git_revision(tmp_path) == committed
    (tmp_path / "more.py").write_text("2")
    assert git_revision(tmp_path) == {**committed, "dirty": True}
