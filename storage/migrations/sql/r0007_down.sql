-- The records of before, as metrion_owner; r0004_ingest.sql runs after this.
CREATE TABLE metrion.latency_days (
  account_id uuid NOT NULL,
  day date NOT NULL,
  provider text NOT NULL,
  model text NOT NULL,
  measure text NOT NULL CHECK (measure IN ('latency', 'ttfb', 'overhead')),
  bucket smallint NOT NULL,
  requests bigint NOT NULL,
  PRIMARY KEY (account_id, day, provider, model, measure, bucket)
) WITH (fillfactor = 80);
ALTER TABLE metrion.latency_days ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY account ON metrion.latency_days TO metrion_api
  USING (account_id = (SELECT metrion.account()))
  WITH CHECK (account_id = (SELECT metrion.account()));
CREATE POLICY judge ON metrion.latency_days FOR SELECT TO metrion_jobs
  USING (account_id = (SELECT metrion.account()));
CREATE POLICY ingest ON metrion.latency_days TO metrion_definer USING (true) WITH CHECK (true);
GRANT SELECT ON metrion.latency_days TO metrion_api, metrion_jobs;
GRANT SELECT, INSERT, UPDATE, DELETE ON metrion.latency_days TO metrion_definer;

GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;
INSERT INTO metrion.latency_days (account_id, day, provider, model, measure, bucket, requests)
SELECT account_id, day, provider, model, measure, bucket, requests
FROM (
    SELECT account_id, day, provider, model,
      sum(latency) AS latency, sum(ttfb) AS ttfb, sum(overhead) AS overhead
    FROM metrion.usage_days GROUP BY 1, 2, 3, 4
  ) AS known
  CROSS JOIN LATERAL (
    VALUES ('latency', latency), ('ttfb', ttfb), ('overhead', overhead)
  ) AS measured (measure, histogram)
  CROSS JOIN generate_series(-40, 84) AS bucket
  CROSS JOIN LATERAL (
    SELECT mod(div(histogram, ('1e' || 12 * (bucket + 40))::numeric), 1e12)
  ) AS counted (requests)
WHERE requests > 0;
DROP FUNCTION metrion.add_to_records(metrion.request_logs[]);
SET ROLE metrion_owner;
DROP TABLE metrion.usage_sums;
DROP FUNCTION metrion.histogram_of(double precision);
DROP INDEX metrion.request_logs_model, metrion.request_logs_requester, metrion.request_logs_cached,
  metrion.request_logs_unanswered, metrion.usage_days_requester;
ALTER TABLE metrion.usage_days DROP COLUMN latency, DROP COLUMN ttfb, DROP COLUMN overhead;
ALTER TABLE metrion.usage_hours DROP COLUMN latency, DROP COLUMN ttfb, DROP COLUMN overhead;
