"""Random worlds for the property test: organizations, pages, people, keys, and questions aimed at every reason.

A world is a dict of table name -> list of rows, a row a dict of column -> text as COPY has it (None is null), whether
it was made here or read back from a database. Everything comes from a random.Random that the caller seeds.
Times lie at least an hour from now on either side: the test's own duration decides nothing.
"""
import datetime
import hashlib
import io
import ipaddress
import zlib

TABLES = ["scope", "role", "role_scope", "organization", "page", "user", "organization_member", "page_member", "pepper",
          "key", "key_page", "key_scope", "key_network"]  # in the order in which rows may refer to each other
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
STATES = ["revoked", "retired", "disabled", "not_yet_valid", "expired"]


# ---- keys -------------------------------------------------------------------------------------------------------

def base62(number, width):
    text = ""
    for _ in range(width):
        number, digit = divmod(number, 62)
        text = BASE62[digit] + text
    return text


def with_crc(head):
    return head + base62(zlib.crc32(head.encode()), 6)


def key_text(rng, kind, key_id, brand="ak"):
    return with_crc(f"{brand}{kind[0]}_{key_id}_{base62(rng.getrandbits(256), 43)}")


def random_key_id(rng):
    return base62(rng.randrange(62 ** 10), 10)


def malformed(rng, text):
    """A text that was a key once."""
    other = rng.choice(BASE62)
    at = rng.randrange(15, len(text))
    return rng.choice([
        text[:-1], text + other, "", text[:at] + (other if other != text[at] else "-") + text[at + 1:],
        text[:14] + "-" + text[15:], text[:4] + "_" + text[5:], "sk" + text[2:], "ak" + "x" + text[3:],
        with_crc(text[:2] + "x" + text[3:-6]), with_crc(text[:-7]), with_crc(text[:-8] + "-" + text[-7]), " " + text[1:],
        text[:-6] + base62(zlib.crc32(text[:-6].encode()) ^ 1, 6), text.upper(), text[:-1] + "é"])


def not_the_key(rng, text):
    """Well formed, yet nobody's: another secret, another id, the other kind's letter."""
    fresh = key_text(rng, rng.choice("uo"), random_key_id(rng))
    return rng.choice([fresh, with_crc(text[:15] + fresh[15:-6]), with_crc(text[:4] + fresh[4:14] + text[14:-6]),
                       with_crc(text[:2] + ("o" if text[2] == "u" else "u") + text[3:-6])])


# ---- time -------------------------------------------------------------------------------------------------------

def when(rng, ahead):
    seconds = rng.choice([3700, 86400, 86400 * 40]) * rng.uniform(1, 2) * (1 if ahead else -1)
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return at.isoformat()


# ---- making -----------------------------------------------------------------------------------------------------

class Maker:
    """Makes rows, and knows the text of every key that it made."""

    def __init__(self, rng, pepper_hex, version=1):
        self.rng, self.pepper, self.version = rng, bytes.fromhex(pepper_hex), version
        self.texts = {}
        self.ids = 1000

    def chance(self, probability):
        return self.rng.random() < probability

    def new_id(self):
        self.ids += 1
        return str(self.ids)

    def organization(self):
        number = self.new_id()
        return {"id": number, "slug": f"org-{number}", "name": f"Organization {number}",
                "standing": "suspended" if self.chance(0.1) else "active"}

    def page(self, organization, slug=None):
        number = self.new_id()
        return {"id": number, "organization_id": organization, "slug": slug or f"page-{number}",
                "name": f"Page {number}", "standing": "archived" if self.chance(0.15) else "active"}

    def user(self):
        number = self.new_id()
        return {"id": number, "email": f"User.{number}@Example.com", "name": f"User {number}",
                "standing": "suspended" if self.chance(0.06) else "active"}

    def network(self):
        if self.chance(0.1):
            return self.rng.choice(["0.0.0.0/0", "::/0"])
        if self.chance(0.5):
            bits = self.rng.choice([8, 12, 15, 16, 17, 23, 24, 25, 30, 31, 32])
            # few first bytes, so that networks of one key overlap
            return str(ipaddress.ip_network((self.rng.choice([10, 172, 192]) << 24 | self.rng.getrandbits(24), bits), False))
        bits = self.rng.choice([16, 32, 47, 48, 49, 63, 64, 65, 127, 128])
        return str(ipaddress.ip_network((0x2001 << 112 | self.rng.getrandbits(112), bits), False))

    def state(self, key):
        """Puts a key into one to three of the states that deny, past or to come."""
        for state in self.rng.sample(STATES, self.rng.choice([1, 1, 1, 2, 3])):
            if state == "revoked":
                key["revoked_at"] = when(self.rng, False)
            elif state == "retired":
                key["retired_at"] = when(self.rng, False)
            elif state == "disabled":
                key["disabled_at"] = when(self.rng, False)
            elif state == "not_yet_valid":
                key["not_before"] = when(self.rng, True)
            elif state == "expired":
                key["expires_at"] = when(self.rng, False)
        if key["not_before"] != "-infinity" and key["expires_at"] != "infinity":
            key["expires_at"] = "infinity" # a span that ends before it begins is refused

    def key(self, world, organization=None, user=None):
        """Rows of one key, put into the world's lists: either of an organization or of a user."""
        rng = self.rng
        kind = "organization" if organization else "user"
        key_id = random_key_id(rng)
        text = self.texts[key_id] = key_text(rng, kind, key_id)
        accesses = [r["name"] for r in world["role"] if r["place"] == "key"]
        key = {"id": key_id, "kind": kind, "organization_id": organization, "user_id": user,
               "access": rng.choice(accesses + ["read", "write", "write"]) if organization else None, "name": "",
               "hash": "\\x" + hashlib.blake2b(text.encode(), key=self.pepper, digest_size=32).hexdigest(),
               "pepper_version": str(self.version), "narrowed_pages": "f", "narrowed_scopes": "f",
               "narrowed_networks": "f", "narrowed_rate": "f", "rate_count": None, "rate_period_s": None,
               "not_before": "-infinity", "expires_at": "infinity", "retired_at": None, "disabled_at": None,
               "revoked_at": None, "created_by": "test"}
        if self.chance(0.22):
            self.state(key)
        else:
            if self.chance(0.1):
                key["retired_at"] = when(rng, True)
            if self.chance(0.15):
                key["not_before"] = when(rng, False)
            if self.chance(0.15):
                key["expires_at"] = when(rng, True)
        if self.chance(0.03):
            key.update(narrowed_rate="t", rate_count="1000000000", rate_period_s="1") # never runs out: the oracle knows no rates
        if self.chance(0.3):
            key["narrowed_pages"] = "t"
            world["key_page"] += [{"key_id": key_id, "page_id": p} for p in self.some_pages(world, organization, user)]
        if self.chance(0.3):
            key["narrowed_scopes"] = "t"
            names = [s["name"] for s in world["scope"]]
            writes = [n for n in names if n.endswith(":write")]
            some = set(rng.sample(names, rng.choice([0, 3, 6, 12])) + rng.sample(writes, rng.choice([0, 2, 4])))
            if some and self.chance(0.4):
                some.add("page:delete")
            world["key_scope"] += [{"key_id": key_id, "scope": s} for s in sorted(some)]
        if self.chance(0.25):
            key["narrowed_networks"] = "t"
            some = {self.network() for _ in range(rng.choice([0, 1, 1, 2, 3]))}
            world["key_network"] += [{"key_id": key_id, "network": n} for n in sorted(some)]
        world["key"].append(key)
        return key

    def some_pages(self, world, organization, user):
        """For a narrowing: mostly pages that the key reaches, none at all at times."""
        if organization:
            pages = [p["id"] for p in world["page"] if p["organization_id"] == organization]
        else:
            homes = {m["organization_id"] for m in world["organization_member"] if m["user_id"] == user}
            pages = [p["id"] for p in world["page"] if p["organization_id"] in homes]
            pages += [m["page_id"] for m in world["page_member"] if m["user_id"] == user]
            if self.chance(0.2):
                pages += [p["id"] for p in self.rng.sample(world["page"], min(2, len(world["page"])))]
        pages = sorted(set(pages))
        return self.rng.sample(pages, self.rng.randint(0, len(pages)) if self.chance(0.85) else 0)

    def catalog(self, world):
        """What a platform adds of its own: scopes of each level, roles of each place."""
        rng = self.rng
        for number in range(8):
            for action in rng.sample(["read", "write", "purge", "reread", "push"], 3):
                level = rng.choice(["page", "page", "organization", "both"])
                world["scope"].append({"name": f"thing{number}:{action}", "page_level": "tf"[level == "organization"],
                                       "organization_level": "tf"[level == "page"]})
        for place, name, rank in [("organization", "steward", 15), ("organization", "guest", 3), ("page", "guest", 4),
                                  ("page", "keeper", 25), ("key", "push", 15)]:
            world["role"].append({"place": place, "name": name, "rank": str(rank)})
        known = {(r["place"], r["role"], r["scope"]) for r in world["role_scope"]}
        shipped = {"owner", "admin", "editor", "viewer", "billing", "read", "write"}
        for role in world["role"]:
            for scope in world["scope"]:
                name = (role["place"], role["name"], scope["name"])
                own = role["name"] not in shipped
                if (own or scope["name"].startswith("thing")) and name not in known and self.chance(0.45):
                    named = role["place"] == "key" and self.chance(0.25)
                    world["role_scope"].append(dict(zip(("place", "role", "scope"), name), when_named="ft"[named]))

    def world(self, catalog, organizations=200, users=500, keys=1800):
        """A whole world on top of the catalog rows that stand in the database already."""
        rng = self.rng
        world = {table: [] for table in TABLES}
        world.update({table: list(rows) for table, rows in catalog.items()})
        self.catalog(world)
        world["organization"] = [self.organization() for _ in range(organizations)]
        for organization in world["organization"]:
            world["page"] += [self.page(organization["id"]) for _ in range(rng.choice([0, 1, 2, 3, 3, 5, 8]))]
        world["user"] = [self.user() for _ in range(users)]
        self.members(world)
        for _ in range(keys):
            if self.chance(0.45):
                self.key(world, organization=rng.choice(world["organization"])["id"])
            else:
                self.key(world, user=rng.choice(world["user"])["id"])
        return world

    def role(self, world, place):
        names = [r["name"] for r in world["role"] if r["place"] == place]
        return self.rng.choice(names + ["owner", "admin"])

    def members(self, world):
        rng = self.rng
        homes = {}
        for page in world["page"]:
            homes.setdefault(page["organization_id"], []).append(page)
        for user in world["user"]:
            mine = rng.sample(world["organization"], rng.choice([0, 1, 1, 1, 2, 3]))
            pages = {}
            for organization in mine:
                world["organization_member"].append({"organization_id": organization["id"], "user_id": user["id"],
                                                     "role": self.role(world, "organization")})
                for page in homes.get(organization["id"], []):
                    if self.chance(0.3): # overrides, upwards and downwards
                        pages[page["id"]] = page
            for page in rng.sample(world["page"], rng.choice([0, 0, 1, 3])):
                pages[page["id"]] = page
            world["page_member"] += [{"page_id": p["id"], "organization_id": p["organization_id"], "user_id": user["id"],
                                      "role": self.role(world, "page")} for p in pages.values()]


# ---- in and out of a database -----------------------------------------------------------------------------------

def columns(cursor, table):
    cursor.execute("select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped"
                   " and attgenerated = '' order by attnum", (f'apikeyd."{table}"',))
    return [name for name, in cursor.fetchall()]


def read(cursor, tables=TABLES):
    world = {}
    for table in tables:
        names = columns(cursor, table)
        cursor.execute(f"select {', '.join(f'{name}::text' for name in names)} from apikeyd.\"{table}\" order by "
                       + ", ".join(str(n + 1) for n in range(len(names))))
        world[table] = [dict(zip(names, (text and {"true": "t", "false": "f"}.get(text, text) for text in row)))
                        for row in cursor.fetchall()]
    return world


def write(cursor, world, tables=TABLES):
    """COPY of all rows of the tables named, in one transaction of the caller's."""
    for table in tables:
        rows = world[table]
        if not rows:
            continue
        names = sorted(set().union(*rows))
        lines = "".join("\t".join("\\N" if row.get(name) is None else row[name].replace("\\", "\\\\") for name in names)
                        + "\n" for row in rows)
        # a column that some rows lack must not become null where it has a default: those tables give all or none
        listed = ", ".join(f'"{name}"' for name in names)
        cursor.copy_expert(f'copy apikeyd."{table}" ({listed}) from stdin', io.StringIO(lines))


def missing(world, database):
    """The rows of `world` that are not in `database` yet, for the catalog tables: a world is put on top of them."""
    names = {"scope": ("name",), "role": ("place", "name"), "role_scope": ("place", "role", "scope")}
    fresh = dict(world)
    for table, columns_ in names.items():
        known = {tuple(row[c] for c in columns_) for row in database[table]}
        fresh[table] = [row for row in world[table] if tuple(row[c] for c in columns_) not in known]
    return fresh
