from api.main import create_app


def test_a_person_reads_the_mails_to_their_own_address(api, sign_in, serve, database):
    sign_in("ada@example.com")
    with serve(create_app(database.settings)) as other:
        sign_in("eve@example.com", other)
        sign_in("EVE@example.com", other)
        (mail,) = api.get("/api/v1/mailbox").json()["items"]
        assert mail["subject"].endswith("is your code for Metrion")
        assert mail["subject"][:6] in mail["text"]
        assert mail["sent_at"] is not None
        assert len(other.get("/api/v1/mailbox").json()["items"]) == 2
    assert "Mailbox" in api.get("/alerts").text


def test_with_a_mail_server_there_is_no_mailbox(api, sign_in, serve, database):
    sign_in("ada@example.com")
    settings = database.settings.model_copy(update={"smtp_url": "smtp://127.0.0.1:1"})
    settings = type(settings)(**settings.model_dump())
    with serve(create_app(settings)) as sending:
        sending.cookies = api.cookies
        answer = sending.get("/api/v1/mailbox")
        assert sending.get("/mailbox").status_code == 404
        assert "Mailbox" not in sending.get("/alerts").text
    assert answer.status_code == 404
    assert "mail server" in answer.json()["detail"]
