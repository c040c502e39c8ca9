"""Random transactions on a world that is already being served: what the feed has to follow.

Each transaction is a list of SQL statements with their values in them, so that what was done can be printed and done
again. Some end in ROLLBACK, some roll a savepoint back, some undo themselves, one of a round is large.
"""
import psycopg2

import worlds


class Changer:
    def __init__(self, rng, maker, connection):
        self.rng, self.maker, self.connection = rng, maker, connection
        self.cursor = connection.cursor()
        self.log = []      # SQL text of each transaction that was committed
        self.refused = 0   # transactions that the database refused
        self.slugs = []    # given up, to be used again
        self.operations = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_")]

    # ---- small tools ----

    def run(self, text, *values):
        statement = self.cursor.mogrify(text, values or None).decode()
        self.statements.append(statement)
        self.cursor.execute(statement)

    def insert(self, table, *rows):
        for row in rows:
            names = ", ".join(row)
            self.run(f'insert into apikeyd."{table}" ({names}) values ({", ".join(["%s"] * len(row))})', *row.values())

    def some(self, table, test=lambda row: True):
        rows = [row for row in self.world[table] if test(row)]
        return self.rng.choice(rows) if rows else None

    def toggle(self, table, other):
        row = self.some(table)
        value = other if row["standing"] == "active" else "active"
        row["standing"] = value
        self.run(f'update apikeyd."{table}" set standing = %s where id = %s', value, row["id"])

    def live_key(self):
        return self.some("key", lambda k: k["revoked_at"] is None)

    # ---- what is done ----

    def do_organization_standing(self):
        self.toggle("organization", "suspended")

    def do_organization_rename(self):
        row = self.some("organization")
        self.slugs.append(("organization", row["slug"]))
        row["slug"] = f"renamed-{self.maker.new_id()}"
        self.run("update apikeyd.organization set slug = %s where id = %s", row["slug"], row["id"])

    def do_organization_new(self):
        row = self.maker.organization()
        old = [slug for table, slug in self.slugs if table == "organization"]
        if old and self.rng.random() < 0.5:
            row["slug"] = self.rng.choice(old)
            self.slugs.remove(("organization", row["slug"]))
        self.insert("organization", row)
        pages = [self.maker.page(row["id"]) for _ in range(2)]
        self.insert("page", *pages)
        user = self.some("user")
        self.insert("organization_member", {"organization_id": row["id"], "user_id": user["id"],
                                            "role": self.maker.role(self.world, "organization")})
        self.new_key(organization=row["id"])

    def do_organization_delete(self):
        owners = {k["organization_id"] for k in self.world["key"]}
        row = self.some("organization", lambda o: o["id"] not in owners)
        if row:
            self.run("delete from apikeyd.page where organization_id = %s", row["id"])
            self.run("delete from apikeyd.organization where id = %s", row["id"])

    def do_page_standing(self):
        self.toggle("page", "archived")

    def do_page_rename(self):
        row = self.some("page")
        self.slugs.append(("page", row["slug"]))
        row["slug"] = f"renamed-{self.maker.new_id()}"
        self.run("update apikeyd.page set slug = %s where id = %s", row["slug"], row["id"])

    def do_page_swap(self):
        """Two pages take each other's names: in one revision a name means another page."""
        one, two = self.some("page"), self.some("page")
        if one is not two:
            self.run("update apikeyd.page set slug = 'between' where id = %s", one["id"])
            self.run("update apikeyd.page set slug = %s where id = %s", one["slug"], two["id"])
            self.run("update apikeyd.page set slug = %s where id = %s", two["slug"], one["id"])
            one["slug"], two["slug"] = two["slug"], one["slug"]

    def do_page_new(self):
        old = [slug for table, slug in self.slugs if table == "page"]
        slug = self.rng.choice(old) if old and self.rng.random() < 0.6 else None
        if slug:
            self.slugs.remove(("page", slug))
        self.insert("page", self.maker.page(self.some("organization")["id"], slug))

    def do_page_delete(self):
        row = self.some("page")
        self.run("delete from apikeyd.page where id = %s", row["id"])
        if self.rng.random() < 0.4: # and another takes its name at once
            self.insert("page", self.maker.page(self.some("organization")["id"], row["slug"]))
        else:
            self.slugs.append(("page", row["slug"]))

    def do_user_standing(self):
        self.toggle("user", "suspended")

    def do_user_rename(self):
        self.run("update apikeyd.user set email = %s where id = %s", f"renamed.{self.maker.new_id()}@example.com",
                 self.some("user")["id"])

    def do_user_new(self):
        row = self.maker.user()
        self.insert("user", row)
        page = self.some("page")
        self.insert("page_member", {"page_id": page["id"], "organization_id": page["organization_id"],
                                    "user_id": row["id"], "role": self.maker.role(self.world, "page")})
        self.new_key(user=row["id"])

    def do_user_delete(self):
        owners = {k["user_id"] for k in self.world["key"]}
        row = self.some("user", lambda u: u["id"] not in owners)
        if row:
            self.run("delete from apikeyd.user where id = %s", row["id"])

    def member(self, table, place, column):
        row = self.some(table)
        what = self.rng.random()
        if what < 0.4:
            self.run(f"update apikeyd.{table} set role = %s where user_id = %s and {column} = %s",
                     self.maker.role(self.world, place), row["user_id"], row[column])
        elif what < 0.7:
            self.run(f"delete from apikeyd.{table} where user_id = %s and {column} = %s", row["user_id"], row[column])
        elif what < 0.85: # the membership moves to somebody else: old and new user both change
            self.run(f"update apikeyd.{table} set user_id = %s where user_id = %s and {column} = %s",
                     self.some("user")["id"], row["user_id"], row[column])
        else:
            target = self.some("organization" if place == "organization" else "page")
            values = {column: target["id"], "user_id": self.some("user")["id"], "role": self.maker.role(self.world, place)}
            if place == "page":
                values["organization_id"] = target["organization_id"]
            self.insert(table, values)

    def do_organization_member(self):
        self.member("organization_member", "organization", "organization_id")

    do_organization_member_more = do_organization_member

    def do_page_member(self):
        self.member("page_member", "page", "page_id")

    do_page_member_more = do_page_member

    def new_key(self, organization=None, user=None):
        fresh = dict(self.world, key=[], key_page=[], key_scope=[], key_network=[])
        self.maker.key(fresh, organization=organization, user=user)
        for table in ("key", "key_page", "key_scope", "key_network"):
            self.insert(table, *fresh[table])

    def do_key_new(self):
        if self.rng.random() < 0.5:
            self.new_key(organization=self.some("organization")["id"])
        else:
            self.new_key(user=self.some("user")["id"])

    def do_key_revoke(self):
        self.run("update apikeyd.key set revoked_at = now() - interval '1 hour' where id = %s", self.live_key()["id"])

    def do_key_disable(self):
        self.run("update apikeyd.key set disabled_at = case when disabled_at is null then now() end where id = %s",
                 self.live_key()["id"])

    def do_key_retire(self):
        self.run("update apikeyd.key set retired_at = %s where id = %s",
                 self.rng.choice([None, worlds.when(self.rng, False), worlds.when(self.rng, True)]),
                 self.live_key()["id"])

    def do_key_times(self):
        key = self.live_key()
        self.run("update apikeyd.key set not_before = '-infinity', expires_at = 'infinity' where id = %s", key["id"])
        if self.rng.random() < 0.6:
            column, ahead = self.rng.choice([("not_before", True), ("not_before", False), ("expires_at", True),
                                             ("expires_at", False)])
            self.run(f"update apikeyd.key set {column} = %s where id = %s", worlds.when(self.rng, ahead), key["id"])

    def do_key_flags(self):
        flag = self.rng.choice(["narrowed_pages", "narrowed_scopes", "narrowed_networks"])
        self.run(f"update apikeyd.key set {flag} = not {flag} where id = %s", self.live_key()["id"])

    def do_key_rate(self):
        self.run("update apikeyd.key set narrowed_rate = not narrowed_rate,"
                 " rate_count = case when narrowed_rate then null else 1000000000 end,"
                 " rate_period_s = case when narrowed_rate then null else 1 end where id = %s", self.live_key()["id"])

    def do_key_access(self):
        key = self.some("key", lambda k: k["access"] is not None)
        self.run("update apikeyd.key set access = %s where id = %s", self.rng.choice(["read", "write", "push"]), key["id"])

    def narrowing(self, table, column, fresh):
        """A row goes, or another comes."""
        row = self.some(table)
        if row and self.rng.random() < 0.5:
            self.run(f"delete from apikeyd.{table} where key_id = %s and {column} = %s", row["key_id"], row[column])
            return
        key = self.some("key", lambda k: k[f"narrowed_{table[4:]}s"] == "t")
        if key:
            value = fresh(key)
            if value:
                self.run(f"insert into apikeyd.{table} (key_id, {column}) values (%s, %s) on conflict do nothing",
                         key["id"], value)

    def do_key_page(self):
        def fresh(key):
            page = self.some("page", lambda p: key["organization_id"] in (None, p["organization_id"]))
            return page and page["id"]
        self.narrowing("key_page", "page_id", fresh)

    def do_key_scope(self):
        self.narrowing("key_scope", "scope", lambda key: self.some("scope")["name"])

    def do_key_network(self):
        self.narrowing("key_network", "network", lambda key: self.maker.network())

    def do_nothing_of_weight(self):
        self.run("update apikeyd.page set name = name || '.' where id = %s", self.some("page")["id"])

    # the catalog: seldom, since every key hangs on it
    def catalog(self):
        rng = self.rng
        what = rng.random()
        if what < 0.35:
            row = self.some("role_scope")
            self.run("delete from apikeyd.role_scope where (place, role, scope) = (%s, %s, %s)", row["place"], row["role"],
                     row["scope"])
        elif what < 0.7:
            role = self.some("role")
            self.run("insert into apikeyd.role_scope (place, role, scope, when_named) values (%s, %s, %s, %s)"
                     " on conflict (place, role, scope) do update set when_named = excluded.when_named", role["place"],
                     role["name"], self.some("scope")["name"], role["place"] == "key" and rng.random() < 0.3)
        elif what < 0.8:
            number = self.maker.new_id()
            self.insert("scope", {"name": f"late{number}:{rng.choice(['read', 'write', 'push'])}", "page_level": True,
                                  "organization_level": rng.random() < 0.5})
        elif what < 0.9:
            row = self.some("scope", lambda s: s["name"].startswith("thing"))
            if row and rng.random() < 0.5:
                for table, column in (("role_scope", "scope"), ("key_scope", "scope"), ("scope", "name")):
                    self.run(f"delete from apikeyd.{table} where {column} = %s", row["name"])
            elif row:
                self.run("update apikeyd.scope set page_level = true, organization_level = not organization_level"
                         " where name = %s", row["name"])
        else:
            self.run("update apikeyd.role set rank = %s where (place, name) = ('page', 'guest')", rng.randint(50, 99))

    def large(self):
        """More than one slice of staging, in one revision."""
        self.run("update apikeyd.organization_member set role = case role when 'viewer' then 'editor'"
                 " when 'editor' then 'viewer' else role end where user_id %% 3 = %s", self.rng.randrange(3))
        self.run("update apikeyd.key set disabled_at = case when ascii(id) %% 20 = %s then now() end"
                 " where revoked_at is null", self.rng.randrange(20))
        self.run("update apikeyd.page set name = name where id %% 2 = %s", self.rng.randrange(2))

    # ---- transactions ----

    def transaction(self, body, undo):
        self.statements = []
        known = dict(self.maker.texts)
        try:
            body()
            if undo:
                self.connection.rollback()
            else:
                self.connection.commit()
                self.log.append(self.statements)
        except psycopg2.Error:
            self.connection.rollback()
            self.refused += 1
            undo = True
        if undo:
            self.maker.texts = known

    def several(self, half_undone):
        for number in range(self.rng.choice([1, 1, 2, 4, 8])):
            if half_undone and number == 1:
                self.run("savepoint here")
                known = dict(self.maker.texts)
            self.rng.choice(self.operations)()
            if half_undone and number == 3:
                self.run("rollback to savepoint here")
                self.maker.texts = known

    def round(self, world, transactions=120):
        """Runs the transactions and returns the revision after the last."""
        self.world = {table: list(map(dict, rows)) for table, rows in world.items()}
        for number in range(transactions):
            kind = self.rng.random()
            if number == transactions // 2:
                self.transaction(self.large, False)
            elif kind < 0.04:
                self.transaction(self.catalog, False)
            else:
                self.transaction(lambda: self.several(kind > 0.9), kind < 0.1)
        self.cursor.execute("select apikeyd.revision()")
        revision = self.cursor.fetchone()[0]
        self.connection.commit()
        return revision


def touched(before, after):
    """key_ids that differ between two worlds, themselves or through their user."""
    def rows(world, table, column):
        lists = {}
        for row in world[table]:
            lists.setdefault(row[column], []).append(tuple(row.values()))
        return lists

    def differ(table, column):
        old, new = rows(before, table, column), rows(after, table, column)
        return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    keys = differ("key", "id") | differ("key_page", "key_id") | differ("key_scope", "key_id") | differ("key_network", "key_id")
    users = differ("user", "id") | differ("organization_member", "user_id") | differ("page_member", "user_id")
    pages = differ("page", "id")
    users |= {row["user_id"] for row in after["page_member"] if row["page_id"] in pages}
    keys |= {row["key_id"] for row in after["key_page"] if row["page_id"] in pages}
    return sorted(keys | {k["id"] for k in after["key"] if k["user_id"] in users})
