-- What the tables do not show, from the database of a run:
--   sqlite3 -header -column outputs/latest/parallel_8_number_200/benchmark_data.db < tools/examples/queries.sql
-- Times are nanoseconds of one clock; phase 'measured' leaves out the connection test and the warm-up. `ringmark guide database` describes
-- all columns.

-- The ten slowest requests: how long each waited here, for its first token, and in all.
SELECT idx,
       round((write_start_ns - due_ns) / 1e6, 3) AS send_lag_ms,
       round((first_token_ns - due_ns) / 1e6, 2) AS ttft_ms,
       round((end_ns - due_ns) / 1e6, 2) AS latency_ms,
       output_tokens
FROM request WHERE phase = 'measured' AND success
ORDER BY end_ns - due_ns DESC LIMIT 10;

-- Completed requests and output tokens in each second.
SELECT (end_ns - (SELECT min(due_ns) FROM request WHERE phase = 'measured')) / 1000000000 AS second,
       count(*) AS requests, sum(output_tokens) AS tokens
FROM request WHERE phase = 'measured' AND success
GROUP BY second ORDER BY second;

-- The five longest gaps between two output events, with the request that had them.
SELECT request_id, round(gap.value * 1000, 3) AS gap_ms
FROM result, json_each(inter_token_latencies) AS gap
ORDER BY gap.value DESC LIMIT 5;

-- Everything that did not succeed, by class, with one of the server's messages.
SELECT outcome, count(*) AS requests, max(error) AS example
FROM request WHERE phase = 'measured' AND NOT success GROUP BY outcome;
