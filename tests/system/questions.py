"""Questions to a world, each aimed at one reason: a question that would be allowed, with one thing about it broken.

The aim is a wish, not an expectation: the oracle says what is right. Some questions have a second thing broken, so that
the order of the reasons is asked about as well.
"""
import ipaddress
from typing import NamedTuple, Optional

import worlds

# How much of each; what remains of 100 is asked unbroken. Reasons in the words of the protocol.
AIMS = {"malformed_key": 1.8, "unknown_key": 1.8, "revoked": 1.2, "retired": 1.2, "disabled": 1.2, "not_yet_valid": 1.8,
        "expired": 1.8, "user_suspended": 1.5, "network": 2.5, "unknown_scope": 2.5, "unknown_page": 5,
        "not_member": 4, "org_suspended": 2.5, "page_archived": 3, "page_not_granted": 4.5, "scope_not_granted": 12,
        "any": 4}


class Question(NamedTuple):
    key_id: Optional[str]  # None: the key's text is malformed or not the key's, and `reason` says which
    key: str
    scope: str
    page: Optional[str]
    org: Optional[str]
    addr: Optional[str]
    reason: Optional[str] = None
    nobody: Optional[str] = None  # an unknown_key that not even the oracle can know: its id


class View:
    """Indexes over a world, for aiming only."""

    def __init__(self, world):
        self.world = world
        self.orgs = {o["id"]: o for o in world["organization"]}
        self.pages = {p["id"]: p for p in world["page"]}
        self.users = {u["id"]: u for u in world["user"]}
        self.scopes = {s["name"]: s for s in world["scope"]}
        self.keys = {k["id"]: k for k in world["key"]}
        self.holds = {}
        for row in world["role_scope"]:
            self.holds.setdefault((row["place"], row["role"]), {})[row["scope"]] = row["when_named"] == "t"
        self.org_pages, self.org_roles, self.page_roles = {}, {}, {}
        for page in world["page"]:
            self.org_pages.setdefault(page["organization_id"], []).append(page)
        for row in world["organization_member"]:
            self.org_roles.setdefault(row["user_id"], {})[row["organization_id"]] = row["role"]
        for row in world["page_member"]:
            self.page_roles.setdefault(row["user_id"], {})[row["page_id"]] = row["role"]
        self.key_pages = self._by_key("key_page", "page_id")
        self.key_scopes = self._by_key("key_scope", "scope")
        self.key_networks = self._by_key("key_network", "network")
        self.archived = {p["id"] for p in world["page"] if p["standing"] == "archived"}
        self.suspended = {o["id"] for o in world["organization"] if o["standing"] == "suspended"}

    def _by_key(self, table, column):
        lists = {}
        for row in self.world[table]:
            lists.setdefault(row["key_id"], []).append(row[column])
        return lists

    def troubles(self, key):
        """What account-level state the key is in; times are far enough from now to be read by their sign."""
        found = []
        now = worlds.datetime.datetime.now(worlds.datetime.timezone.utc)

        def past(text):
            at = worlds.datetime.datetime.fromisoformat(text.replace(" ", "T") + (":00" if text[-3] in "+-" else ""))
            return at < now
        if key["revoked_at"]:
            found.append("revoked")
        if key["retired_at"] and past(key["retired_at"]):
            found.append("retired")
        if key["disabled_at"]:
            found.append("disabled")
        if key["not_before"] != "-infinity" and not past(key["not_before"]):
            found.append("not_yet_valid")
        if key["expires_at"] != "infinity" and past(key["expires_at"]):
            found.append("expired")
        if key["user_id"] and self.users[key["user_id"]]["standing"] == "suspended":
            found.append("user_suspended")
        return found

    def places(self, key):
        """(page or None, organization id, holder) of every place that the key's owner reaches."""
        found = []
        if key["kind"] == "organization":
            holder = ("key", key["access"])
            return [(p, key["organization_id"], holder) for p in self.org_pages.get(key["organization_id"], [])] + [
                (None, key["organization_id"], holder)]
        own = self.page_roles.get(key["user_id"], {})
        for organization, role in self.org_roles.get(key["user_id"], {}).items():
            found.append((None, organization, ("organization", role)))
            found += [(p, organization, ("organization", role)) for p in self.org_pages.get(organization, [])
                      if p["id"] not in own]
        found += [(self.pages[p], self.pages[p]["organization_id"], ("page", role)) for p, role in own.items()]
        return found

    def right(self, key, place, held=True):
        """Scopes of the place's level that the key holds there, or the others."""
        page, _, holder = place
        column = "page_level" if page else "organization_level"
        listed = self.key_scopes.get(key["id"], [])
        narrowed = key["narrowed_scopes"] == "t"
        table = self.holds.get(holder, {})
        good, bad = [], []
        for name, scope in self.scopes.items():
            if scope[column] != "t":
                continue
            named = narrowed and name in listed
            fits = not narrowed or named or (name.endswith(":read") and name[:-4] + "write" in listed)
            (good if name in table and fits and (named or not table[name]) else bad).append(name)
        return good if held else bad


def address_in(rng, network):
    net = ipaddress.ip_network(network)
    address = net.network_address + rng.getrandbits(net.max_prefixlen - net.prefixlen or 1) % net.num_addresses
    return spell(rng, address)


def address_beside(rng, network):
    """Outside by the network's last bit alone, or anywhere."""
    net = ipaddress.ip_network(network)
    if net.prefixlen == 0 or rng.random() < 0.3:
        return spell(rng, ipaddress.ip_address(rng.getrandbits(32)))
    flipped = int(net.network_address) ^ 1 << (net.max_prefixlen - net.prefixlen)
    return spell(rng, type(net.network_address)(flipped + rng.getrandbits(64) % net.num_addresses))


def spell(rng, address):
    if address.version == 4 and rng.random() < 0.3:
        return f"::ffff:{address}"
    return str(address)


class Asker:
    def __init__(self, rng, world, texts, favoured=()):
        """favoured: key_ids that every second question is about (those that a change touched)."""
        self.rng, self.view = rng, View(world)
        self.texts = {key_id: text for key_id, text in texts.items() if key_id in self.view.keys}
        self.by_trouble = {None: []}
        for key_id in self.texts:
            found = self.view.troubles(self.view.keys[key_id])
            for trouble in found or [None]:
                self.by_trouble.setdefault(trouble, []).append(key_id)
        live = set(self.by_trouble[None])
        self.favoured = [key_id for key_id in favoured if key_id in live]
        self.cached = {}
        self.reach = {"org_suspended": [], "page_archived": [], "page_not_granted": [], "network": []}
        self.easy = [] # keys that may do something somewhere
        for key_id in self.by_trouble[None]:
            key, places = self.view.keys[key_id], self.places(key_id)
            listed = self.listed(key)
            if any(self.troubles(place, listed) == (False, False, False) for place in places):
                self.easy.append(key_id)
            if any(o in self.view.suspended for _, o, _ in places):
                self.reach["org_suspended"].append(key_id)
            if any(p and p["id"] in self.view.archived for p, _, _ in places):
                self.reach["page_archived"].append(key_id)
            if key["narrowed_pages"] == "t" and places:
                self.reach["page_not_granted"].append(key_id)
            if key["narrowed_networks"] == "t":
                self.reach["network"].append(key_id)

    def places(self, key_id):
        if key_id not in self.cached:
            self.cached[key_id] = self.view.places(self.view.keys[key_id])
        return self.cached[key_id]

    def pick(self, aim):
        rng = self.rng
        if aim in self.by_trouble and self.by_trouble[aim]:
            return rng.choice(self.by_trouble[aim])
        if self.reach.get(aim):
            return rng.choice(self.reach[aim])
        if self.favoured and rng.random() < 0.5:
            return rng.choice(self.favoured)
        return rng.choice(self.easy if self.easy and rng.random() < 0.7 else self.by_trouble[None])

    def listed(self, key):
        """The pages that the key is narrowed to; None: it is not."""
        return self.view.key_pages.get(key["id"], []) if key["narrowed_pages"] == "t" else None

    def troubles(self, place, listed):
        """What about a place denies: organization suspended, page archived, page not in the key's list."""
        page, organization, _ = place
        return (organization in self.view.suspended, bool(page) and page["id"] in self.view.archived,
                listed is not None and (not page or page["id"] not in listed))

    def place(self, key, aim):
        """One of the key's places: an untroubled one where there is one, or one that suits the aim."""
        rng = self.rng
        places, listed = self.places(key["id"]), self.listed(key)
        wanted = {"org_suspended": (True, False, False), "page_archived": (False, True, False),
                  "page_not_granted": (False, False, True)}.get(aim, (False, False, False))
        fitting = [p for p in places if self.troubles(p, listed) == wanted]
        if aim == "not_member":
            fitting = [p for p in places if p[0] is None]
        elif aim == "unknown_page":
            fitting = [p for p in places if p[0]]
        elif aim in (None, "scope_not_granted") and rng.random() < 0.7:
            fitting = [p for p in fitting if p[0]] or fitting
        return rng.choice(fitting or places) if places else None

    def scope(self, key, place, aim):
        rng, view = self.rng, self.view
        if place is None or rng.random() < 0.03:
            return rng.choice(list(view.scopes))
        if aim == "unknown_scope":
            column = "page_level" if place[0] else "organization_level"
            wrong = [n for n, s in view.scopes.items() if s[column] != "t"]
            return rng.choice(wrong + ["nothing:read", "incident", "Incident:read", "incident:read ", "thing:reread"])
        if aim == "scope_not_granted":
            names = view.right(key, place, False)
            if key["access"] and "page:delete" in names and rng.random() < 0.2:
                return "page:delete"
        else:
            names = view.right(key, place, True)
            if aim == "page_archived" and rng.random() < 0.8:
                names = [n for n in names if not n.endswith(":read")] or names
        return rng.choice(names or list(view.scopes))

    def address(self, key, aim):
        rng = self.rng
        networks = self.view.key_networks.get(key["id"], [])
        if key["narrowed_networks"] == "t" and networks:
            network = rng.choice(networks)
            if aim != "network":
                return address_in(rng, network)
            return address_beside(rng, network) if rng.random() < 0.75 else None
        if rng.random() < 0.3:
            return spell(rng, ipaddress.ip_address(rng.getrandbits(rng.choice([32, 128]))))
        return None

    def where(self, key, place, aim):
        """(page slug or None, organization slug or None)"""
        rng, view = self.rng, self.view
        if place is None:
            page = rng.choice(view.world["page"]) if rng.random() < 0.7 else None
            return page and page["slug"], rng.choice(view.world["organization"])["slug"] if rng.random() < 0.3 else None
        page, organization, _ = place
        slug = page and page["slug"]
        several = key["user_id"] and len(view.org_roles.get(key["user_id"], {})) != 1
        org = view.orgs[organization]["slug"] if rng.random() < (0.95 if several and not page else 0.25) else None
        stranger = rng.choice([rng.choice(view.world["organization"])["slug"], "no-such-organization"])
        if aim == "unknown_page":
            slug, org = rng.choice([(f"no-such-{slug}", org), (rng.choice(view.world["page"])["slug"], None),
                                    (slug, stranger), (rng.choice(view.world["page"])["slug"], org)])
        elif aim == "not_member":
            org = None if several and rng.random() < 0.4 else stranger
        return slug, org

    def question(self, key_id, aim):
        rng = self.rng
        key = self.view.keys[key_id]
        place = self.place(key, aim)
        scope = self.scope(key, place, aim)
        page, org = self.where(key, place, aim)
        return Question(key_id, self.texts[key_id], scope, page, org, self.address(key, aim))

    def ask(self, aim):
        """One question for the aim, at times with a second thing broken."""
        rng = self.rng
        if aim == "any":
            view, key_id = self.view, rng.choice(list(self.texts))
            key = view.keys[key_id]
            slug = rng.choice(view.world["page"])["slug"] if rng.random() < 0.7 else None
            return Question(key_id, self.texts[key_id], rng.choice(list(view.scopes)), slug, None,
                            self.address(key, rng.choice([None, "network"])))
        key_id = self.pick(aim)
        question = self.question(key_id, aim)
        if aim in ("malformed_key", "unknown_key"):
            make = worlds.malformed if aim == "malformed_key" else worlds.not_the_key
            text = make(rng, question.key)
            nobody = text[4:14] if aim == "unknown_key" and text[4:14] not in self.view.keys else None
            return question._replace(key_id=None, key=text, reason=aim, nobody=nobody)
        if aim is not None and rng.random() < 0.2:
            other = self.question(key_id, rng.choice(["network", "unknown_scope", "unknown_page", "not_member",
                                                      "org_suspended", "page_archived", "page_not_granted",
                                                      "scope_not_granted"]))
            part = rng.choice(["scope", "page", "org", "addr"])
            question = question._replace(**{part: getattr(other, part)})
        return question

    def groups(self, count):
        """Lists of questions that one request may hold: the same key, organization and address."""
        rng = self.rng
        aims, weights = list(AIMS) + [None], list(AIMS.values()) + [100 - sum(AIMS.values())]
        while count > 0:
            aim = rng.choices(aims, weights)[0]
            first = self.ask(aim)
            group = [first]
            if first.key_id and rng.random() < 0.4:
                for _ in range(min(rng.choice([1, 2, 4]), count - 1)):
                    other = self.question(first.key_id, aim)
                    group.append(first._replace(scope=other.scope, page=other.page))
            count -= len(group)
            yield group
