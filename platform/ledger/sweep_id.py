"""Each sweep has an id of its own: names are used again, and SQLite gives a deleted study's number to the next one."""

import json
import uuid

from sqlalchemy import Connection, text

SWEEP_ID = "advseg.sweep_id"
"""Attribute of a study, which goes with it when its database is copied, restored or moved."""

# Of several that give an id at the same moment one wins.
_GIVE = text(
    'INSERT INTO study_user_attributes (study_id, "key", value_json) VALUES (:study, :key, :id) ON CONFLICT DO NOTHING'
)
_READ = text('SELECT value_json FROM study_user_attributes WHERE study_id = :study AND "key" = :key')


def ensure_sweep_id(connection: Connection, study_id: int) -> str:
    """The id of a study's sweep, 32 hexadecimal digits, given to it if it has none."""
    study = {"study": study_id, "key": SWEEP_ID}
    connection.execute(_GIVE, {**study, "id": json.dumps(uuid.uuid4().hex)})
    return json.loads(connection.execute(_READ, study).scalar_one())
