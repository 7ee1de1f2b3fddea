import psycopg
import pytest
from pydantic import SecretStr

from storage import roles
from storage.database_url import administrator_url, conninfo, service_url
from storage.errors import EmbeddedDatabaseError, RightsMissing
from storage.settings import Settings


def test_a_service_url_has_the_roles_own_name_and_password(database):
    service = psycopg.conninfo.conninfo_to_dict(database.url(roles.JOBS).get_secret_value())
    owner = psycopg.conninfo.conninfo_to_dict(database.administrator_url.get_secret_value())
    password = (database.settings.data_dir / "roles/metrion_jobs.password").read_text().strip()
    assert (service["user"], service["password"]) == (roles.JOBS, password)
    for same in ("host", "port", "dbname"):
        assert service.get(same) == owner.get(same)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://root:a@h:1/d", "postgresql://metrion_api:p%2Fw@h:1/d"),
        ("postgresql://root:a@h1:1,h2:2/d", "postgresql://metrion_api:p%2Fw@h1:1,h2:2/d"),
        ("postgresql:///d?host=%2Frun&user=root&password=a", "postgresql://metrion_api:p%2Fw@/d?host=%2Frun"),
        ("postgresql://root@[::1]/d?sslmode=require", "postgresql://metrion_api:p%2Fw@[::1]/d?sslmode=require"),
        ("postgresql://root@h/d?options=-c%20a%3Db+c", "postgresql://metrion_api:p%2Fw@h/d?options=-c%20a%3Db%2Bc"),
        ("postgresql://metrion_api:own@h/d", "postgresql://metrion_api:own@h/d"),
        ("postgresql://h/d?user=metrion_api", "postgresql://h/d?user=metrion_api"),
    ],
)  # fmt: skip
def test_forms_of_service_urls(tmp_path, given, expected):
    (tmp_path / "roles").mkdir()
    path = tmp_path / "roles" / "metrion_api.password"
    path.write_text("p/w\n")
    path.chmod(0o600)
    settings = Settings(data_dir=tmp_path, database_url=SecretStr(given))
    assert service_url(settings, roles.API).get_secret_value() == expected


def test_a_missing_password_says_what_to_do(tmp_path):
    settings = Settings(data_dir=tmp_path, database_url=SecretStr("postgresql://root@h/d"))
    with pytest.raises(RightsMissing, match="metrion migrate"):
        service_url(settings, roles.API)


def test_a_password_that_others_can_read_is_refused(tmp_path):
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles" / "metrion_api.password").write_text("p\n")
    (tmp_path / "roles" / "metrion_api.password").chmod(0o644)
    settings = Settings(data_dir=tmp_path, database_url=SecretStr("postgresql://root@h/d"))
    with pytest.raises(RightsMissing, match="chmod 600"):
        service_url(settings, roles.API)


def test_without_a_url_the_embedded_server_is_meant(tmp_path):
    with pytest.raises(EmbeddedDatabaseError, match="not running"):
        administrator_url(Settings(data_dir=tmp_path))


def test_a_url_may_set_its_own_waits():
    parsed = psycopg.conninfo.conninfo_to_dict(
        conninfo(SecretStr("postgresql://h/d?connect_timeout=60"))
    )
    assert parsed["connect_timeout"] == "60"
    assert parsed["tcp_user_timeout"] == "10000"
