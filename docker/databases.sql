-- Roles and databases of MLflow and of the ledger. PostgreSQL's image runs it when its volume is new.
\set mlflow `cat /run/secrets/postgres-mlflow`
\set advseg `cat /run/secrets/postgres-advseg`
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE ROLE advseg LOGIN PASSWORD :'advseg';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_users OWNER mlflow;
CREATE DATABASE advseg OWNER advseg;
REVOKE CONNECT ON DATABASE mlflow, mlflow_users, advseg FROM PUBLIC;
