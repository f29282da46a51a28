"""Column types of the revisions, the same on every engine. Revisions stand on them: none is ever changed, only added.

MySQL wants a length for every VARCHAR, holds 64 KB in a TEXT, whole seconds in a DATETIME and 24 bits in a FLOAT.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
"""A text of any length."""
KEY = sa.String(length=255)
"""A text that is looked up: a digest, a name."""
NUMBER = sa.Float().with_variant(mysql.DOUBLE(), "mysql", "mariadb")
STATUS = sa.String(length=32)
TIME = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
"""To the microsecond."""
