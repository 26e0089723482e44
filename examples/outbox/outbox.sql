-- What an application writes in the same transaction as its own rows:
--     INSERT INTO outbox (event) VALUES ('{"order": 17, "is": "paid"}');
CREATE TABLE outbox (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id bigint GENERATED ALWAYS AS IDENTITY,
    event jsonb NOT NULL,
    PRIMARY KEY (xid, id)
);
