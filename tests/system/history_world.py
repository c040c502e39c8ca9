"""The small world of the history checker, and its own statement of the rule over it.

A state of the world is a set of facts: a tuple such as ("user", 3) and its value ("active"). Transactions set facts,
whatever they were before, so that the state at a revision is told by the last transaction that set each. The
questions are few and plain, so that the rule fits into `rule` below and shares nothing with the daemon's or with SQL's.

| fact | value |
|---|---|
| ("org", o), ("page", p), ("user", u) | its standing |
| ("crowd",) | standing of all users of the crowd, who change together: one fact of many rows |
| ("role", u) | role of the user in the organization, None: no member |
| ("page_role", u, p) | role on the page, None: none |
| ("minted", k), ("revoked", k), ("retired", k), ("disabled", k) | True or False, of the key's id |
| ("access", k) | of an organization key: read or write |
| ("pages", k), ("scopes", k) | what it is narrowed to, a frozenset; None: not narrowed |
"""
import random
import secrets
import threading

from world import key_hash, make_key

ORGS = 2
PAGES = 8     # page p belongs to organization p % ORGS, as does user u
USERS = 8
CROWD = 300   # users of organization 0, editors there
CROWD_KEYS = 6
SCOPES = {"page:read": 1, "incident:write": 2, "page:write": 3}  # the smallest rank that holds it
ROLES = {"viewer": 1, "editor": 2, "admin": 3, "owner": 3}
ACCESS = {"read": 1, "write": 3}
DEAD = ("revoked", "retired", "disabled")
DEFAULTS = {"minted": False, "revoked": False, "retired": False, "disabled": False, "access": "write", "pages": None,
            "scopes": None, "org": "active", "page": "active", "user": "active", "crowd": "active",
            "page_role": None, "role": None}


class Key:
    """A key's text and what never changes of it. `owner`: number of its user or organization; None: of the crowd."""

    def __init__(self, kind, owner, pepper, times=None):
        self.text = make_key(kind)
        self.id = self.text[4:14]
        self.kind, self.owner, self.times = kind, owner, times
        self.hash = key_hash(self.text, pepper)
        self.org = owner if kind == "organization" else 0 if owner is None else owner % ORGS


def rule(fact, key, scope, page):
    """The reason that a question gets; `fact` tells the value of one."""
    k = key.id
    if not fact(("minted", k)):
        return "unknown_key"
    for dead in DEAD:
        if fact((dead, k)):
            return dead
    if key.times:
        return key.times
    if key.kind == "user" and fact(("crowd",) if key.owner is None else ("user", key.owner)) == "suspended":
        return "user_suspended"
    if page % ORGS != key.org:
        return "unknown_page"  # nobody has a role, or a key, in the other organization
    if key.kind == "organization":
        rank = ACCESS[fact(("access", k))]
    elif key.owner is None:
        rank = ROLES["editor"]
    else:
        role = fact(("page_role", key.owner, page)) or fact(("role", key.owner))
        if role is None:
            return "unknown_page"
        rank = ROLES[role]
    if fact(("org", key.org)) == "suspended":
        return "org_suspended"
    if fact(("page", page)) == "archived" and scope != "page:read":
        return "page_archived"
    pages, scopes = fact(("pages", k)), fact(("scopes", k))
    if pages is not None and page not in pages:
        return "page_not_granted"
    if rank < SCOPES[scope]:
        return "scope_not_granted"
    if scopes is not None and scope not in scopes and not (scope == "page:read" and "page:write" in scopes):
        return "scope_not_granted"
    return "ok"


def default_of(fact):
    return DEFAULTS[fact[0]]


class World:
    """The things of the world by their numbers, the keys that there are, and which of them are worth asking about."""

    def __init__(self, seed, pepper=None):
        self.pepper = pepper or secrets.token_hex(32)
        self.lock = threading.Lock()
        self.keys = []     # minted, and not revoked for long: what writers change and readers ask about
        self.buried = []   # revoked lately
        self.recent = []   # keys that lately changed, or whose owner did
        self.by_text = {}
        dice = random.Random(f"{seed} world")
        self.initial = {}
        for user in range(USERS):
            self.initial[("role", user)] = dice.choice(list(ROLES))
            self.keys += [self.new_key("user", user), self.new_key("user", user)]
        for org in range(ORGS):
            self.keys += [self.new_key("organization", org) for _ in range(4)]
        self.keys += [self.new_key("user", None) for _ in range(CROWD_KEYS)]
        # Far from any clock that a fault moves.
        self.fixed = [self.new_key("user", 0, "expired"), self.new_key("user", 1, "not_yet_valid"),
                      self.new_key("user", 2)]
        for key in self.keys + self.fixed:
            self.initial[("minted", key.id)] = True

    def new_key(self, kind, owner, times=None):
        """Nowhere minted yet."""
        key = Key(kind, owner, self.pepper, times)
        self.by_text[key.text] = key
        return key

    # ---- in the database --------------------------------------------------------------------------------------------

    def build(self, cursor):
        """Puts the initial state into an empty schema; one transaction, the caller's."""
        for org in range(ORGS):
            cursor.execute("insert into apikeyd.organization (id, slug) values (%s, %s)", (org + 1, f"org{org}"))
        for page in range(PAGES):
            cursor.execute("insert into apikeyd.page (id, organization_id, slug) values (%s, %s, %s)",
                           (page + 1, page % ORGS + 1, f"page{page}"))
        for user in range(USERS):
            cursor.execute("insert into apikeyd.user (id, email) values (%s, %s)", (user + 1, f"user{user}@history.test"))
            cursor.execute("insert into apikeyd.organization_member (organization_id, user_id, role) values (%s, %s, %s)",
                           (user % ORGS + 1, user + 1, self.initial[("role", user)]))
        cursor.execute("insert into apikeyd.user (id, email) select 1000 + i, 'crowd' || i || '@history.test' "
                       "from generate_series(0, %s) i", (CROWD - 1,))
        cursor.execute("insert into apikeyd.organization_member (organization_id, user_id, role) "
                       "select 1, id, 'editor' from apikeyd.user where id >= 1000")
        cursor.execute("insert into apikeyd.pepper (version, check_value) values (1, %s)",
                       (key_hash("apikeyd pepper check v1", self.pepper),))
        crowd = 0
        for key in self.keys + self.fixed:
            mint(cursor, key, crowd * (CROWD - 1) // (CROWD_KEYS - 1))
            crowd += key.owner is None
        cursor.execute("update apikeyd.key set expires_at = now() - interval '12 h' where id = %s", (self.fixed[0].id,))
        cursor.execute("update apikeyd.key set not_before = now() + interval '12 h' where id = %s", (self.fixed[1].id,))
        cursor.execute("update apikeyd.key set expires_at = now() + interval '12 h', "
                       "not_before = now() - interval '12 h' where id = %s", (self.fixed[2].id,))

    # ---- what is talked about ---------------------------------------------------------------------------------------

    def touched(self, facts):
        """Readers ask about these next."""
        ids = {fact[1] for fact in facts if fact[0] in ("revoked", "retired", "disabled", "access", "pages", "scopes",
                                                        "minted")}
        owners = {("user", fact[1]) for fact in facts if fact[0] in ("user", "role", "page_role")}
        owners |= {("user", None) for fact in facts if fact[0] == "crowd"}
        with self.lock:
            keys = [k for k in self.keys + self.buried if k.id in ids or (k.kind, k.owner) in owners]
            self.recent = (keys + self.recent)[:24]

    def add(self, key):
        with self.lock:
            self.keys.append(key)

    def bury(self, keys):
        """They are revoked, or were never minted: nothing more is changed about them."""
        gone = set(keys)
        with self.lock:
            self.keys = [k for k in self.keys if k not in gone]
            self.buried = (keys + self.buried)[:40]

    def restock(self, lives):
        """After a loss: keys that live again are changed again, and those that are not there any more are not."""
        with self.lock:
            known = list(dict.fromkeys(self.keys + self.buried))
            self.keys = [key for key in known if lives(key)]
            self.buried = [key for key in known if not lives(key)][:40]

    def pick(self, dice):
        """A key to ask about."""
        with self.lock:
            pools = [self.recent, self.recent, self.keys, self.keys, self.buried, self.fixed]
            return dice.choice(next(pool for pool in dice.sample(pools, 6) if pool))

    def question(self, dice):
        key = self.pick(dice)
        page = dice.randrange(PAGES // ORGS) * ORGS + key.org if dice.random() < 0.95 else dice.randrange(PAGES)
        return key, dice.choice(list(SCOPES)), page


def mint(cursor, key, crowd=None):
    """Inserts the key; one of the crowd belongs to the user of that number in it."""
    user = org = access = None
    if key.kind == "organization":
        org, access = key.owner + 1, "write"
    else:
        user = 1000 + crowd if key.owner is None else key.owner + 1
    cursor.execute("insert into apikeyd.key (id, kind, organization_id, user_id, access, hash, pepper_version) "
                   "values (%s, %s, %s, %s, %s, %s, 1)", (key.id, key.kind, org, user, access, key.hash))
