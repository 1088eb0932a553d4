#!/bin/sh
# Measures a server, then runs queries.sql on the database of the run, with the sqlite3 module of Python.
#
#   sql.sh URL
set -eu
url=${1:?"usage: sql.sh URL"}
here=$(cd "$(dirname "$0")" && pwd)
"${RINGMARK:-ringmark}" perf --url "$url" --parallel 8 --number "${NUMBER:-200}" --outputs-dir sql --no-timestamp --name run --quiet
python3 - "$here/queries.sql" sql/run/*/benchmark_data.db <<'END'
import sqlite3
import sys

queries, database = sys.argv[1:]
connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
code = "".join(line for line in open(queries) if not line.startswith("--"))
for query in code.split(";"):
    if not query.strip():
        continue
    rows = connection.execute(query)
    print("\t".join(column[0] for column in rows.description))
    for row in rows:
        print("\t".join("-" if value is None else str(value) for value in row))
    print()
END
