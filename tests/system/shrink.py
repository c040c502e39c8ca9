"""Makes a world small in which daemon and oracle still disagree about one question, and says it in SQL."""
import time

import compare
import worlds
from world import Daemon

# what goes along when a row goes: (table, columns) -> tables whose rows refer to it by (columns)
REFERENCES = [("organization", "id", "page", "organization_id"), ("organization", "id", "organization_member", "organization_id"),
              ("page", "id", "page_member", "page_id"), ("page", "id", "key_page", "page_id"),
              ("user", "id", "organization_member", "user_id"), ("user", "id", "page_member", "user_id"),
              ("scope", "name", "role_scope", "scope"), ("scope", "name", "key_scope", "scope")]
CATALOG = ("scope", "role", "role_scope")
PLAIN = {"narrowed_pages": "f", "narrowed_scopes": "f", "narrowed_networks": "f", "narrowed_rate": "f", "rate_count": None,
         "rate_period_s": None, "not_before": "-infinity", "expires_at": "infinity", "retired_at": None, "disabled_at": None,
         "successor": None, "standing": "active"}


class Shrinker:
    """Tries worlds in a scratch database made from `template`, each with a daemon of its own.

    The catalog rows that are shipped stay: they need not be said.
    """

    def __init__(self, cluster, template, pepper, shipped, seconds=60):
        self.cluster, self.template, self.pepper, self.shipped = cluster, template, pepper, shipped
        self.end = time.monotonic() + seconds
        self.tries = 0

    def disagree(self, world, question):
        """(daemon's, oracle's) where they differ in this world, else None."""
        self.tries += 1
        name = f"shrink_{self.tries}"
        self.cluster.sql(f'create database "{name}" template "{self.template}"', database="postgres")
        connection = self.cluster.connect(database=name, autocommit=False)
        daemon = None
        try:
            cursor = connection.cursor()
            for table in reversed(CATALOG):
                cursor.execute(f"delete from apikeyd.{table}")
            cursor.execute("delete from apikeyd.pepper")
            worlds.write(cursor, world)
            connection.commit()
            daemon = Daemon(settings={"database.conninfo": self.cluster.dsn("apikeyd", name)}, pepper=self.pepper)
            answer, = compare.ask_daemon(daemon, [[question]])
            oracle, = compare.ask_oracle(self.cluster, [question], database=name, connections=1)
            return (compare.parts(answer), oracle) if compare.parts(answer) != oracle else None
        finally:
            if daemon:
                daemon.kill()
            connection.close()
            self.cluster.sql(f'drop database "{name}" with (force)', database="postgres")

    def shrink(self, world, question):
        """The smallest world found in time; None where even the whole world, freshly loaded, agrees."""
        small = closure(world, question)
        if not self.disagree(small, question):
            small = world
            if not self.disagree(small, question):
                return None
        for table in ("key", "role_scope", "scope", "role", "user", "organization", "page", "page_member",
                      "organization_member", "key_network", "key_scope", "key_page", "role_scope", "scope", "role"):
            small = self.fewer(small, table, question)
        return self.plainer(small, question)

    def fewer(self, world, table, question):
        """Takes rows of one table away, in halves, quarters, ... as long as the disagreement stays."""
        size = len(world[table])
        while size and time.monotonic() < self.end:
            at = 0
            while at < len(world[table]) and time.monotonic() < self.end:
                some = [row for row in world[table][at:at + size] if row not in self.shipped.get(table, ())]
                smaller = without(world, table, some) if some else None
                if smaller and self.disagree(smaller, question):
                    world = smaller
                else:
                    at += size
            size //= 2
        return world

    def plainer(self, world, question):
        """Sets columns to what they are when nobody says anything."""
        for table in ("key", "user", "organization", "page"):
            for number, row in enumerate(world[table]):
                for columns in (["narrowed_rate", "rate_count", "rate_period_s"], *([c] for c in PLAIN)):
                    plain = dict(row, **{c: PLAIN[c] for c in columns if c in row})
                    if plain == row or time.monotonic() > self.end:
                        continue
                    changed = dict(world, **{table: world[table][:number] + [plain] + world[table][number + 1:]})
                    if "narrowed_rate" in columns and len(columns) == 1:
                        continue # goes with its numbers or not at all
                    if self.disagree(changed, question):
                        world, row = changed, plain
        return world


def without(world, table, rows):
    """The world without these rows and what hangs on them; None where a key or a member would lose its owner."""
    smaller = {name: list(kept) for name, kept in world.items()}
    gone = [(table, row) for row in rows]
    while gone:
        name, row = gone.pop()
        if row not in smaller[name]:
            continue
        smaller[name].remove(row)
        for parent, column, child, reference in REFERENCES:
            if parent == name:
                gone += [(child, other) for other in smaller[child] if other[reference] == row[column]]
        if name == "key":
            gone += [(child, other) for child in ("key_page", "key_scope", "key_network") for other in smaller[child]
                     if other["key_id"] == row["id"]]
        if name == "role":
            gone += [("role_scope", other) for other in smaller["role_scope"]
                     if (other["place"], other["role"]) == (row["place"], row["name"])]
    for key in smaller["key"]:
        owners = smaller["user"] if key["user_id"] else smaller["organization"]
        if not any(owner["id"] in (key["user_id"], key["organization_id"]) for owner in owners):
            return None
    roles = {(role["place"], role["name"]) for role in smaller["role"]}
    used = [("organization", m["role"]) for m in smaller["organization_member"]]
    used += [("page", m["role"]) for m in smaller["page_member"]] + [("key", k["access"]) for k in smaller["key"] if k["access"]]
    return smaller if all(role in roles for role in used) else None


def closure(world, question):
    """The rows that the question can have to do with."""
    key = next((k for k in world["key"] if k["id"] == question.key_id), None)
    if not key:
        return world
    small = dict(world)
    for table in ("key_page", "key_scope", "key_network"):
        small[table] = [row for row in world[table] if row["key_id"] == key["id"]]
    small["key"] = [dict(key, successor=None)]
    small["user"] = [u for u in world["user"] if u["id"] == key["user_id"]]
    for table in ("organization_member", "page_member"):
        small[table] = [row for row in world[table] if row["user_id"] == key["user_id"]]
    pages = {row["page_id"] for row in small["page_member"] + small["key_page"]}
    small["page"] = [p for p in world["page"] if p["id"] in pages or p["slug"] == question.page]
    orgs = {row["organization_id"] for row in small["page"] + small["organization_member"] + small["key"]}
    small["organization"] = [o for o in world["organization"] if o["id"] in orgs or o["slug"] == question.org]
    return small


def literal(text):
    return "null" if text is None else "'" + text.replace("'", "''") + "'"


def said(table, column, value):
    """Whether a column needs to be said: not what it is by itself, and not what nobody cares about."""
    if column in ("created_at", "created_by", "description", "name") and (column != "name" or table in ("key", "user", "organization", "page")):
        return False
    return table in CATALOG or value != PLAIN.get(column)


def as_sql(world, shipped):
    """The rows as SQL, the catalog's as what differs from the shipped one."""
    lines = []
    for table in worlds.TABLES:
        plain = [{c: v for c, v in row.items() if said(table, c, v)} for row in world[table]]
        for row in plain:
            row.update({c: "\\x" + "00" * 32 for c in ("hash", "check_value") if c in row})
        if table in CATALOG:
            old = [{c: v for c, v in row.items() if said(table, c, v)} for row in shipped[table]]
            gone = [row for row in old if row not in plain]
            plain = [row for row in plain if row not in old]
            lines += [f"delete from apikeyd.{table} where " + " and ".join(f"{c} = {literal(v)}" for c, v in row.items()) + ";"
                      for row in gone[:40]]
            if len(gone) > 40:
                lines.append(f"-- and {len(gone) - 40} more rows of apikeyd.{table}")
        for row in plain:
            lines.append(f'insert into apikeyd."{table}" ({", ".join(row)}) values ({", ".join(map(literal, row.values()))});')
    return lines


def as_question(question):
    arguments = [literal(question.key_id), literal(question.scope), literal(question.page), literal(question.org),
                 literal(question.addr) + "::inet"]
    return f"select * from apikeyd.explain_rights({', '.join(arguments)}, now());"
