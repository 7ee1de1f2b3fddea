import re
from pathlib import Path

import pytest

from storage import roles
from storage.errors import RightsMissing
from storage.settings import Settings


def test_the_roles_are_those_that_migrations_make():
    made = Path(roles.__file__).with_name("migrations") / "sql/roles.sql"
    names = set(re.findall(r"'(metrion_\w+)'", made.read_text()))
    assert {*roles.LOGIN_ROLES, roles.OWNER, roles.DEFINER} == names


def test_passwords_are_in_the_data_directory(tmp_path):
    folder = roles.roles_folder(Settings(data_dir=tmp_path))
    assert roles.password_path(folder, roles.PROXY) == tmp_path / "roles/metrion_proxy.password"


def test_a_password_is_what_its_file_says(tmp_path):
    path = roles.password_path(tmp_path, roles.JOBS)
    path.write_text("secret\n")
    path.chmod(0o600)
    assert roles.read_password(tmp_path, roles.JOBS) == "secret"


def test_a_missing_password_says_what_to_do(tmp_path):
    with pytest.raises(RightsMissing, match="metrion migrate"):
        roles.read_password(tmp_path, roles.JOBS)


def test_a_password_that_others_can_read_is_refused_and_not_shown(tmp_path):
    path = roles.password_path(tmp_path, roles.JOBS)
    path.write_text("secret\n")
    path.chmod(0o640)
    with pytest.raises(RightsMissing, match="chmod 600") as caught:
        roles.read_password(tmp_path, roles.JOBS)
    assert "secret" not in str(caught.value)
