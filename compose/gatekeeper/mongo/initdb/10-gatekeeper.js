// Runs once, as root, before anybody else can connect: the API's own user, which may use its own database alone.
const password = require("fs").readFileSync("/run/secrets/db_password", "utf8").trim();
db.getSiblingDB("gatekeeper").createUser({
  user: "gatekeeper",
  pwd: password,
  roles: [{ role: "readWrite", db: "gatekeeper" }],
});
