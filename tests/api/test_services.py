from pathlib import Path

import pytest

from api.services import Services
from storage.errors import EmbeddedDatabaseError, MasterKeyError, RightsMissing
from storage.sealing import MasterKeys
from storage.settings import Settings

DATABASE = "postgresql://metrion_api:none@127.0.0.1:1/none"


async def test_everything_is_there(settings_alone: Settings):
    services = Services.open(settings_alone)
    assert [provider.name for provider in services.providers]
    await services.close()


def test_without_a_master_key_there_is_no_service(tmp_path: Path):
    settings = Settings(data_dir=tmp_path, database_url=DATABASE)
    with pytest.raises(MasterKeyError, match="no master key"):
        Services.open(settings)
    MasterKeys.create(settings.master_key_path)
    settings.master_key_path.chmod(0o644)
    with pytest.raises(MasterKeyError):
        Services.open(settings)


def test_without_a_database_or_rights_there_is_no_service(tmp_path: Path):
    settings = Settings(data_dir=tmp_path)
    MasterKeys.create(settings.master_key_path)
    with pytest.raises(EmbeddedDatabaseError):
        Services.open(settings)
    administrator = DATABASE.replace("metrion_api", "postgres")
    with pytest.raises(RightsMissing, match="metrion_api"):
        Services.open(Settings(data_dir=tmp_path, database_url=administrator))
