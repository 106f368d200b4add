"""Checks a page of `sae-extract report` in a headless Chromium: scripts/checks/report.py PAGE.html [--screenshots DIR] [--large]

The script compares what the page shows with the data that is embedded in the page, so it can check the page of any run. It needs
Python's playwright (pip install playwright) and a Chromium (--chromium, $CHROMIUM, or one in PATH).
"""
import argparse
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import sys
import time

from playwright.sync_api import sync_playwright

ALL = "-1"
HIDDEN = re.compile("[\n\t\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]|<0x[0-9A-F]{2}>")


class Failed(Exception):
    pass


def check(condition, sentence):
    if not condition:
        raise Failed(sentence)


def until(page, expression, arg=None, timeout=5000):
    """Waits until `expression` is true. Playwright's own waiting evaluates text within the page, which the page's content
    security policy forbids."""
    end = time.monotonic() + timeout / 1000
    while not page.evaluate(expression, arg):
        check(time.monotonic() < end, f"{expression} does not become true with {arg!r}.")
        page.wait_for_timeout(20)


def same(shown, expected, what):
    check(shown == expected, f"{what}: {str(shown)[:300]} is shown, {str(expected)[:300]} is in the data.")


def ratio(part, whole):
    return part / whole if whole else None


def plain(token):
    return token.replace("▁", " ")


class Data:
    """The page's data, and the values that the page must show, computed independently of the page's code."""

    def __init__(self, data):
        self.all = data
        self.authors = data["authors"]
        self.saes = data["saes"]
        self.tokens = [author["tokens"] for author in self.authors]
        self.comparable = sum(count > 0 for count in self.tokens) > 1
        self.raw = data["values"] == "raw"
        self.features = {}
        for index, sae in enumerate(self.saes):
            for feature in sae["features"]:
                self.features[f"{sae['site']}-{sae['layer']}-{feature['id']}"] = (index, feature)

    def of(self, values, author):
        return values[author] if self.tokens[author] else None

    def best(self, feature):
        """Returns the index of the author that a feature marks: the author with the largest z above 0, or None."""
        z = [self.of(feature["z"], author) for author in range(len(self.authors))]
        known = [(-value, author) for author, value in enumerate(z) if value is not None and value > 0]
        return min(known)[1] if known and self.comparable else None

    def keys(self, sae):
        return {key for key, (index, _) in self.features.items() if sae == ALL or index == int(sae)}

    def statistic(self, key, measure, author):
        _, feature = self.features[key]
        if measure == "rate":
            return ratio(feature["counts"][author], self.tokens[author])
        return self.of(feature["log_odds" if measure == "logOdds" else "z"], author)

    def column(self, table, column, key, sae=ALL):
        """Returns the value that row `key` of `table` must show in `column`."""
        if table == "authors-table":
            author = self.authors[int(key)]
            if column == "name":
                return lowered(author["name"])
            group, _, name = column.partition(".")
            return (author[group] or {}).get(name) if name else author[column]
        if table == "saes-table":
            sae = self.saes[int(key)]
            known = {"sae": int(key), "name": sae["sae_name"].encode("utf-16-be"), "published": sae["published_l0"], "alive": sae["alive"],
                     "share": ratio(sae["alive"], sae["d_sae"])}
            return known[column] if column in known else (sae["l0"] or {}).get(column)
        if table == "counts-table":
            _, feature = self.features[sae]
            author = int(key)
            return {"name": lowered(self.authors[author]["name"]), "rate": ratio(feature["counts"][author], self.tokens[author]),
                    "counts": feature["counts"][author], "documents": feature["documents"][author],
                    "logOdds": self.of(feature["log_odds"], author), "z": self.of(feature["z"], author)}[column]
        index, feature = self.features[key]
        total, best = sum(feature["counts"]), self.best(feature)
        if column == "feature":
            return (index if sae == ALL else 0, feature["id"])
        if column in ("documents", "total", "rate"):
            return {"documents": sum(feature["documents"]), "total": total, "rate": ratio(total, sum(self.tokens))}[column]
        if best is None:
            return None
        there = feature["counts"][best]
        return {"author": lowered(self.authors[best]["name"]), "there": ratio(there, self.tokens[best]),
                "elsewhere": ratio(total - there, sum(self.tokens) - self.tokens[best]), "logOdds": feature["log_odds"][best],
                "z": feature["z"][best], "documentsThere": feature["documents"][best]}[column]


def lowered(name):
    return name.lower().encode("utf-16-be")


def number_in(text):
    """Returns the number at the beginning of a cell's text, or None for a dash."""
    found = re.match(r"−?[\d,]+(\.\d+)?", text)
    return float(found.group().replace("−", "-").replace(",", "")) if found else None


class Report:
    def __init__(self, page, url, data):
        self.page = page
        self.url = url
        self.data = data
        self.random = random.Random(1)

    def evaluate(self, code, argument=None):
        return self.page.evaluate(code, argument)

    # ---- Tables

    def rows(self, table):
        """Returns each row's key and the texts of its cells."""
        return self.evaluate("""id => [...document.getElementById(id).tBodies[0].rows]
            .map(row => [row.dataset.key, [...row.cells].map(cell => cell.textContent)])""", table)

    def show_all(self, table):
        more = self.page.locator(f".scroll:has(#{table}) + button.more")
        if more.is_visible():
            more.click()

    def check_table(self, table, expected, sae=ALL):
        """Checks that the table has the expected rows, that cells agree with the data, and that each column sorts both ways."""
        self.show_all(table)
        rows = self.rows(table)
        check(len(rows) == len(expected), f"{table} has {len(rows)} rows instead of {len(expected)}.")
        same(sorted(key for key, _ in rows), sorted(expected), f"Rows of {table}")
        columns = self.evaluate("""id => [...document.getElementById(id).tHead.querySelectorAll("th")]
            .map(cell => cell.querySelector("button")?.dataset.column ?? null)""", table)
        for place, column in enumerate(columns):
            if column is None:
                continue
            value_of = {key: self.data.column(table, column, key, sae) for key in expected}
            for key, cells in rows:
                value = value_of[key]
                if isinstance(value, (bytes, tuple)) or column == "sae":
                    continue
                shown = number_in(cells[place])
                if value is None:
                    check(shown is None, f"{table}, {column}, row {key}: {cells[place]!r} is shown, but the data has no value.")
                    continue
                percent = "%" in cells[place]
                digits = len((re.search(r"\.(\d+)", cells[place]) or [None, ""])[1])
                value = 100 * value if percent else value
                check(shown is not None and abs(shown - value) <= 0.5000001 * 10 ** -digits + 1e-9 * abs(value),
                      f"{table}, {column}, row {key}: {cells[place]!r} is shown, {value} is in the data.")
            button = self.page.locator(f'#{table} thead button[data-column="{column}"]')
            seen = set()
            for _ in range(2):
                button.click()
                self.show_all(table)
                direction = button.locator("xpath=..").get_attribute("aria-sort")
                check(direction in ("ascending", "descending"), f"{table} does not say that it is sorted by {column}.")
                seen.add(direction)
                order = [value_of[key] for key, _ in self.rows(table)]
                known = [value for value in order if value is not None]
                check(len(known) == len(order) or all(value is None for value in order[len(known):]),
                      f"{table} sorted by {column}, {direction}: empty cells are not last.")
                wanted = sorted(known, reverse=direction == "descending")
                readable = [[value.decode("utf-16-be") if isinstance(value, bytes) else value for value in values[:5]]
                            for values in (known, wanted)]
                check(known == wanted, f"{table} sorted by {column} is not {direction}: it begins {readable[0]}, not {readable[1]}.")
            check(len(seen) == 2, f"{table} sorts by {column} only one way.")
            others = self.page.locator(f"#{table} thead [aria-sort]").count()
            check(others == 1, f"{table} says that it is sorted by {others} columns.")
        return len(columns)

    # ---- Sections

    def check_head(self):
        data = self.data
        text = self.page.locator("#run").inner_text()
        for key in ("model", "save_dir", "dtype", "tool"):
            check(str(data.all[key]) in text, f"The head does not show {key} ({data.all[key]!r}).")
        totals = self.page.locator("#run .totals dd").all_inner_texts()
        expected = [len(data.authors), sum(author["documents"] for author in data.authors), sum(data.tokens), len(data.saes)]
        same([number_in(total) for total in totals], expected, "Totals")
        warnings = self.page.locator("#run .warning").all_text_contents()
        for note in data.all["notes"]:
            check(note in warnings, f"The note {note!r} is not shown as a warning.")
        extra = (not data.all["reproducible"]) + (not data.all["finished"])
        expected = len(data.all["notes"]) + extra
        check(len(warnings) == expected, f"{len(warnings)} warnings are shown instead of {expected}.")
        check(("not reproducible" in text) == (not data.all["reproducible"]), "The head is wrong about whether the run is reproducible.")
        if data.all["command"]:
            same(shlex.split(self.page.locator("#run pre").text_content()), data.all["command"], "The command, as a shell reads it")

    def check_authors(self):
        if not self.data.authors:
            return
        self.check_table("authors-table", [str(index) for index in range(len(self.data.authors))])
        names = dict(self.evaluate("""() => [...document.querySelectorAll("#authors-table tbody tr")]
            .map(row => [row.dataset.key, row.querySelector("bdi").textContent])"""))
        for index, author in enumerate(self.data.authors):
            same(names[str(index)], author["name"], f"The name of author {index}")
        some = sum(1 for author in self.data.authors for key in ("cross_entropy", "entropy")
                   if author[key] and sum(author[key]["histogram"]))
        same(self.page.locator("#authors svg.distribution").count(), some, "Distributions")

    def check_sparsity(self):
        data = self.data
        if not data.saes:
            return
        self.check_table("saes-table", [str(index) for index in range(len(data.saes))])
        some = sum(1 for sae in data.saes if (sae["l0"] or {}).get("mean") is not None)
        same(self.page.locator("#sparsity .panels .l0-mean").count(), some, "Points of mean L0")
        if len(data.authors) > 1:
            for key, cells in self.rows("l0-table"):
                shown = [number_in(cell) for cell in cells[1:]]
                values = [sae["l0_by_author"][int(key)] for sae in self.in_order()]
                fits = len(shown) == len(values) and all(
                    a is b is None or (a is not None and b is not None and abs(a - b) <= (0.501 if b >= 100 else 0.0501))
                    for a, b in zip(shown, values))
                check(fits, f"Mean L0 of author {key}: {shown} is shown, {values} is in the data.")

    def in_order(self):
        """Returns the SAEs in the order of the matrices' columns: by site, then layer."""
        sites = list(dict.fromkeys(sae["site"] for sae in self.data.saes))
        return sorted(self.data.saes, key=lambda sae: (sites.index(sae["site"]), sae["layer"]))

    def check_overview(self):
        if not self.data.comparable:
            check(self.page.locator("#contrast .warning").is_visible(), "With one author, the page shows no warning.")
            same(self.page.locator("#contrast [data-measure]").count(), 0, "Measures offered though authors cannot be compared")
            return
        order = self.in_order()
        for key, cells in self.rows("best-table"):
            author = int(key)
            for sae, cell in zip(order, cells[1:]):
                known = [(self.data.of(feature["z"], author) or 0, feature["id"]) for feature in sae["features"]]
                top = max([z for z, _ in known], default=0)
                ids = {str(id) for z, id in known if z == top} if top > 0 else {"–"}
                check(cell in ids, f"Best feature of author {author} in {sae['hook']}: {cell} is shown, {ids} has the largest z.")

    def choose_sae(self, value):
        self.page.locator("#sae").select_option(value)

    def clear_filters(self):
        self.page.locator("#by-number").fill("")
        self.page.locator("#by-text").fill("")
        if self.data.comparable:
            self.page.locator("#by-author").select_option("")
        self.page.locator("#firing").check()

    def check_shown(self, expected, what):
        if not expected:
            check(self.page.locator("#contrast .empty").is_visible(), f"{what}: no feature matches, and the page does not say so.")
            check(not self.page.locator("#features-table").is_visible(), f"{what}: no feature matches, but the table is shown.")
            return
        self.show_all("features-table")
        shown = [key for key, _ in self.rows("features-table")]
        check(len(shown) == len(set(shown)), f"{what}: a feature is shown twice.")
        extra, missing = sorted(set(shown) - expected), sorted(expected - set(shown))
        check(not extra and not missing, f"{what}: {extra[:5]} should not be shown, {missing[:5]} should.")
        check(self.page.locator("#features-table").is_visible(), f"{what}: the table is hidden.")

    def check_filters(self, sae):
        data, page = self.data, self.page
        self.choose_sae(sae)
        self.clear_filters()
        expected = data.keys(sae)
        self.check_shown(expected, f"SAE {sae} without filters")
        if not expected:
            return
        feature_of = {key: data.features[key][1] for key in expected}
        if data.comparable:
            for author in range(min(len(data.authors), 6)):
                page.locator("#by-author").select_option(str(author))
                self.check_shown({key for key in expected if data.best(feature_of[key]) == author},
                                 f"SAE {sae}, features that mark author {author}")
            page.locator("#by-author").select_option("")
        some = str(feature_of[self.random.choice(sorted(expected))]["id"])
        for typed in {some, some[:2], "99999999"}:
            page.locator("#by-number").fill(typed)
            self.check_shown({key for key in expected if str(feature_of[key]["id"]).startswith(typed)},
                             f"SAE {sae}, feature number {typed}")
        page.locator("#by-number").fill("")
        words = sorted({plain(token).strip() for feature in feature_of.values() for context in feature["contexts"]
                        for token in context["tokens"]})
        words = [word for word in words if word.isascii() and word.isprintable() and len(word) > 1]
        for word in self.random.sample(words, min(3, len(words))) + ["no such text anywhere"]:
            for firing in (True, False):
                page.locator("#firing").set_checked(firing)
                page.locator("#by-text").fill(word.upper())
                fits = set()
                for key, feature in feature_of.items():
                    for context in feature["contexts"]:
                        texts = [plain("".join(context["tokens"]))]
                        if firing:
                            texts = [plain(context["tokens"][index]) for index, _ in context["fires"]]
                        if any(word.lower() in text.lower() for text in texts):
                            fits.add(key)
                self.check_shown(fits, f"SAE {sae}, text {word!r}, {'only tokens that fire' if firing else 'whole contexts'}")
        # Applies all filters at once.
        if data.comparable and words:
            best = data.best(feature_of[sorted(expected)[0]])
            if best is not None:
                page.locator("#by-author").select_option(str(best))
                page.locator("#by-text").fill("e")
                page.locator("#by-number").fill("1")
                fits = {key for key, feature in feature_of.items() if data.best(feature) == best and str(feature["id"]).startswith("1")
                        and any("e" in plain("".join(context["tokens"])).lower() for context in feature["contexts"])}
                self.check_shown(fits, f"SAE {sae}, three filters at once")
        self.clear_filters()

    def check_heat(self, sae):
        """Checks that the heat map's readout agrees with the data, that colours have the sign of the value, and that Enter chooses
        a feature."""
        data, page = self.data, self.page
        self.choose_sae(sae)
        self.clear_filters()
        count = min(120, len(data.keys(sae)))
        measures = ("logOdds", "z", "rate") if data.comparable else ("rate",)
        canvas = page.locator("#heat")
        for measure in measures:
            if data.comparable:
                page.locator(f'[data-measure="{measure}"]').click()
            canvas.evaluate("canvas => canvas.scrollIntoView({ block: 'center', behavior: 'instant' })")
            box = canvas.bounding_box()
            seen = 0
            for _ in range(12):
                x = self.random.random() * min(box["width"], page.viewport_size["width"] - box["x"] - 30)
                author = self.random.randrange(len(data.authors))
                y = (author + 0.5) * box["height"] / len(data.authors)
                page.mouse.move(box["x"] + x, box["y"] + y)
                text = page.locator(".readout").text_content()
                found = re.match(r"(\S+) (\d+), feature (\d+)\. ", text)
                if not found:
                    continue
                seen += 1
                key = "-".join(found.groups())
                check(key in data.features, f"The heat map speaks of {key}, which is not in the data.")
                name = re.sub("[\u202a-\u202e\u2066-\u2069]", "", data.authors[author]["name"])
                check(f"\u2068{name}\u2069" in text, f"The heat map says {text!r} at the row of {name!r}.")
                rate = data.statistic(key, "rate", author)
                if rate is None:
                    check("has no tokens" in text, f"The heat map says {text!r} of an author without tokens.")
                    continue
                said = number_in(text.split("fires at ")[1])
                check(abs(said - 100 * rate) <= 0.000501, f"The heat map says {said} % where the data says {100 * rate} %.")
                value = data.statistic(key, measure, author)
                page.mouse.move(1, 1)
                red, _, blue = self.evaluate("""([x, y]) => {
                    const copy = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
                    copy.drawImage(document.getElementById("heat"), -Math.round(x * devicePixelRatio), -Math.round(y * devicePixelRatio));
                    return [...copy.getImageData(0, 0, 1, 1).data]; }""", [x, y])[:3]
                chosen = self.evaluate("document.getElementById('feature-title').textContent") == f"Feature {found[3]}"
                if measure == "logOdds" and value is not None and abs(value) > 1 and (red, blue) != (0, 0) and not chosen:
                    check((red > blue) == (value > 0), f"The heat map's colour at log-odds {value} is red {red}, blue {blue}.")
            check(seen > 0, f"The heat map has no readout under the pointer ({measure}).")
        canvas.focus()
        for step in ["ArrowRight"] * min(3, count) + ["ArrowDown"]:
            page.keyboard.press(step)
        found = re.match(r"(\S+) (\d+), feature (\d+)\. ", page.locator(".readout").text_content())
        check(found, "The heat map's readout is empty after arrow keys.")
        page.keyboard.press("Enter")
        self.check_chosen("-".join(found.groups()), "Enter in the heat map")

    def check_chosen(self, key, how):
        """Checks that the panel shows feature `key`, and that its contexts and links agree with the data."""
        data, page = self.data, self.page
        until(page, "key => location.hash === '#' + key", arg=key, timeout=3000)
        index, feature = data.features[key]
        sae = data.saes[index]
        until(page, "id => document.getElementById('feature-title').textContent === 'Feature ' + id",
                               arg=feature["id"], timeout=3000)
        about = page.locator("#feature-about").text_content()
        check(sae["hook"] in about and sae["sae_name"] in about, f"{how}: the feature's SAE is given as {about!r}.")
        links = self.evaluate("[...document.querySelectorAll('#feature a')].map(link => link.href)")
        wanted = [f"https://www.neuronpedia.org/{sae['neuronpedia']}/{feature['id']}"] if sae["neuronpedia"] else []
        same(links, wanted, f"{how}: links of {key}")
        if not wanted:
            check((sae["neuronpedia_note"] or "") in about, f"{how}: the reason why {key} has no link is not given.")
        contexts = self.evaluate("""() => [...document.querySelectorAll("#feature .contexts > li")].map(item => ({
            where: item.querySelector(".where").textContent, text: item.querySelector(".context").textContent,
            author: item.querySelector(".where bdi").textContent,
            marks: [...item.querySelectorAll("mark")].map(mark => [Number(mark.dataset.index), mark.textContent,
                getComputedStyle(mark).textDecorationLine, Number(getComputedStyle(mark).getPropertyValue("--strength"))]) }))""")
        same(len(contexts), len(feature["contexts"]), f"{how}: number of contexts of {key}")
        for shown, context in zip(contexts, feature["contexts"]):
            fires = dict(context["fires"])
            same(sorted(index for index, *_ in shown["marks"]), sorted(fires), f"{how}: marked tokens of {key}")
            same(shown["author"], data.authors[context["author"]]["name"], f"{how}: author of a context of {key}")
            check(f"document {context['document']}" in shown["where"] and f"positions {context['start']}–" in shown["where"],
                  f"{how}: a context of {key} has the place {shown['where']!r}.")
            for index, text, line, _ in shown["marks"]:
                if not HIDDEN.search(context["tokens"][index]):
                    same(text, plain(context["tokens"][index]), f"{how}: the marked text of {key}")
                check("underline" in line, f"{how}: a firing token of {key} is not underlined.")
            if data.raw:
                strengths = {index: strength for index, _, _, strength in shown["marks"]}
                pairs = sorted(fires, key=lambda index: fires[index])
                check(all(strengths[a] <= strengths[b] for a, b in zip(pairs, pairs[1:])),
                      f"{how}: colours of {key} do not follow its values.")
            if not any(HIDDEN.search(token) for token in context["tokens"]):
                same(shown["text"].removeprefix("…"), plain("".join(context["tokens"])), f"{how}: the text of a context of {key}")
        selected = self.evaluate("[...document.querySelectorAll('#features-table tr[aria-selected=true]')].map(row => row.dataset.key)")
        same(selected, [key], f"{how}: selected rows")

    def check_choosing(self):
        data, page = self.data, self.page
        filled = [str(index) for index, sae in enumerate(data.saes) if sae["features"]]
        self.choose_sae(filled[0])
        self.clear_filters()
        keys = [key for key, _ in self.rows("features-table")]
        clicked, pressed = keys[min(2, len(keys) - 1)], keys[min(1, len(keys) - 1)]
        page.locator(f'#features-table tr[data-key="{clicked}"] td').last.click()
        self.check_chosen(clicked, "A click on a row")
        in_view = self.evaluate("document.getElementById('feature-title').getBoundingClientRect().top")
        check(-1 <= in_view < page.viewport_size["height"], "A click on a row does not bring the feature into view.")
        page.locator(f'#features-table tr[data-key="{pressed}"] a').focus()
        page.keyboard.press("Enter")
        self.check_chosen(pressed, "Enter on a row's link")
        if pressed != clicked:
            page.go_back()
            self.check_chosen(clicked, "The back button")
            page.locator("#previous").click()
            self.check_chosen(keys[keys.index(clicked) - 1], "The button of the previous feature")
            page.locator("#next").click()
            self.check_chosen(clicked, "The button of the next feature")
        if data.comparable:
            link = page.locator("#best-table td[data-feature]").last
            key = link.get_attribute("data-feature")
            link.locator("a").click()
            self.check_chosen(key, "A click in the overview")
        some = self.random.sample(sorted(data.features), min(12, len(data.features)))
        for sae in data.saes[:6]:
            some += [f"{sae['site']}-{sae['layer']}-{feature['id']}" for feature in sae["features"][:1]]
        for key in some:
            self.evaluate("key => { location.hash = key; }", key)
            self.check_chosen(key, "The address")
            same(page.locator("#sae").input_value(), str(data.features[key][0]), "The SAE chosen by the address")
        key = some[0]
        page.goto("about:blank")
        page.goto(f"{self.url}#{key}")
        self.check_chosen(key, "A link opened anew")
        self.check_table("counts-table", [str(index) for index in range(len(data.authors))], key)
        sae = data.saes[0]
        absent = next(id for id in range(10 ** 6) if f"{sae['site']}-{sae['layer']}-{id}" not in data.features)
        self.evaluate("hash => { location.hash = hash; }", f"{sae['site']}-{sae['layer']}-{absent}")
        until(page, "id => document.getElementById('feature-title').textContent === 'Feature ' + id", arg=absent)
        check(page.locator("#feature .empty").is_visible(), "The page does not say that a feature is not in the report.")
        self.evaluate("location.hash = 'authors'")
        check(page.locator("#authors").is_visible(), "A link to a section broke the page.")

    def check_theme(self):
        page = self.page
        look = """() => [getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(document.body).color,
            document.getElementById("heat")?.offsetParent ? document.getElementById("heat").toDataURL() : null]"""
        before = self.evaluate(look)
        page.locator("#theme").click()
        after = self.evaluate(look)
        for place, what in enumerate(("background", "text", "heat map")):
            check(before[place] != after[place] or before[place] is None, f"The theme's button leaves the colour of the {what}.")
        for background, text, _ in (before, after):
            check(contrast(background, text) >= 7, f"Text in {text} on {background} has too little contrast.")
        page.locator("#theme").click()
        same(self.evaluate(look)[:2], before[:2], "Colours after the theme's button was pressed twice")

    def check_narrow(self):
        self.page.set_viewport_size({"width": 360, "height": 740})
        self.page.wait_for_timeout(200)
        wide, room = self.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        if wide > room:
            widest = self.evaluate("""() => [...document.querySelectorAll("main *, nav *, footer")].filter(element => {
                for (let box = element.parentElement; box; box = box.parentElement)
                    if (getComputedStyle(box).overflowX !== "visible") return false;
                return element.getBoundingClientRect().right > document.documentElement.clientWidth + 1; })
                .map(element => element.tagName + "#" + element.id + "." + element.className).slice(0, 4)""")
            raise Failed(f"At 360 pixels the page is {wide} wide: {', '.join(widest)}.")
        self.page.set_viewport_size({"width": 1280, "height": 900})

    def check_print(self):
        self.page.emulate_media(media="print")
        clipped = self.evaluate("""() => [...document.querySelectorAll(".scroll")].filter(box => box.offsetParent
            && box.scrollHeight > box.clientHeight + 2 && getComputedStyle(box).overflowY !== "visible").length""")
        same(clipped, 0, "Tables that are cut off in print")
        check(not self.page.locator("nav").is_visible(), "The navigation is printed.")
        self.page.emulate_media(media="screen")

    def check_hostile(self):
        counts = self.evaluate("""[document.images.length, document.scripts.length,
            document.querySelectorAll("iframe, object, embed, link[rel=stylesheet]").length]""")
        same(counts, [0, 2, 0], "Images, scripts and embedded things")


def contrast(one, other):
    """Returns the WCAG contrast ratio of two CSS colours."""
    def luminance(colour):
        channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        return sum(weight * (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
                   for weight, value in zip((0.2126, 0.7152, 0.0722), channels))
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def timings(browser, url, data, times):
    """Prints how long the page takes. Nothing is asserted: a slow machine is not an error of the page."""
    results = []
    for _ in range(times):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(url)
        until(page, "performance.getEntriesByType('paint').length && performance.getEntriesByName('rendered').length")
        paint, rendered = page.evaluate("""[performance.getEntriesByName("first-contentful-paint")[0].startTime,
            performance.getEntriesByName("rendered")[0].startTime]""")
        values = list(dict.fromkeys([str(index) for index, sae in enumerate(data.saes) if sae["features"]][-1:] + [ALL]))
        switches = page.evaluate("""values => { const select = document.getElementById("sae"); if (!select) return [];
            return values.filter(value => [...select.options].some(option => option.value === value)).map(value => {
                const start = performance.now();
                select.value = value;
                select.dispatchEvent(new Event("change"));
                document.body.offsetHeight;
                return performance.now() - start; }); }""", values)
        results.append((paint, rendered, *switches))
        context.close()
    names = ("first paint of content", "all sections rendered", "another SAE", "all SAEs")
    for name, values in zip(names, zip(*results)):
        print(f"{name}: {', '.join(f'{value:.0f}' for value in values)} ms")


def screenshots(browser, url, folder):
    os.makedirs(folder, exist_ok=True)
    for name, width, scheme in (("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 360, "light"), ("phone-dark", 360, "dark")):
        context = browser.new_context(viewport={"width": width, "height": 900 if width > 400 else 740}, color_scheme=scheme)
        page = context.new_page()
        page.goto(url)
        until(page, "document.documentElement.dataset.rendered")
        page.wait_for_timeout(200)
        page.screenshot(path=os.path.join(folder, name + ".png"), full_page=True)
        context.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page")
    parser.add_argument("--screenshots", metavar="DIR", help="write screenshots of the page, light, dark and on a phone")
    parser.add_argument("--large", action="store_true", help="measure five times how long the page takes, instead of once")
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
                        or shutil.which("google-chrome"))
    arguments = parser.parse_args()
    if not arguments.chromium:
        raise SystemExit("Chromium is not found: install it, or give its path with --chromium or in CHROMIUM")
    path = pathlib.Path(arguments.page).resolve()
    url = path.as_uri()
    with sync_playwright() as playwright:
        # Chromium's sandbox does not start as root in a container.
        sandbox = [] if os.getuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=sandbox)
        try:
            check_page(browser, url, path, arguments)
        finally:
            browser.close()


def check_page(browser, url, path, arguments):
    troubles = []
    # With reduced motion a scroll ends at once, so the script can check without waiting which elements are in view.
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce")
    context.add_init_script("""window.violations = [];
        document.addEventListener("securitypolicyviolation",
            event => violations.push(`${event.violatedDirective} ${event.blockedURI}`));""")
    page = context.new_page()
    page.set_default_timeout(10000)
    page.on("console", lambda message: troubles.append(f"the console says {message.text!r}")
            if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(f"an error is thrown: {error}"))
    page.on("dialog", lambda dialog: (troubles.append(f"a dialog opens: {dialog.message!r}"), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.split("#")[0] in (url, "about:blank") or request.url.startswith("data:")
            else troubles.append(f"{request.url} is requested"))

    def quiet(when):
        found = troubles + [f"the content security policy is violated: {text}" for text in page.evaluate("window.violations || []")]
        check(not found, f"{when}: {'; '.join(found[:3])}.")

    page.goto(url)
    quiet("When it is opened")
    check(page.evaluate("document.documentElement.dataset.rendered") == "true", "The page does not render to its end.")
    data = Data(json.loads(page.evaluate("document.getElementById('data').textContent")))
    size = path.stat().st_size
    print(f"{path.name}: {size / 1e6:.2f} MB, {len(data.authors)} authors, {len(data.saes)} SAEs, {len(data.features)} features")
    report = Report(page, url, data)
    filled = [str(index) for index, sae in enumerate(data.saes) if sae["features"]]
    bare = [str(index) for index, sae in enumerate(data.saes) if not sae["features"]]
    steps = [("the head", report.check_head), ("authors", report.check_authors), ("L0", report.check_sparsity),
             ("hostile text", report.check_hostile)]
    if data.saes:
        steps.append(("the overview", report.check_overview))
        chosen = list(dict.fromkeys(filled[:2] + filled[-1:] + bare[:1] + ([ALL] if len(data.saes) > 1 else [])))
        for sae in chosen:
            steps.append((f"filters, SAE {sae}", lambda sae=sae: report.check_filters(sae)))
        for sae in dict.fromkeys(filled[:1] + ([ALL] if filled and len(data.saes) > 1 else [])):
            def whole(sae=sae):
                report.choose_sae(sae)
                report.check_table("features-table", sorted(data.keys(sae)), sae)
            steps += [(f"features, SAE {sae}", whole), (f"heat map, SAE {sae}", lambda sae=sae: report.check_heat(sae))]
        if filled:
            steps.append(("choosing", report.check_choosing))
    steps += [("the theme", report.check_theme), ("a phone", report.check_narrow), ("print", report.check_print),
              ("hostile text at the end", report.check_hostile)]
    for name, step in steps:
        try:
            step()
        except Failed:
            raise
        except Exception as error:
            raise Failed(f"{name}: {str(error).splitlines()[0]}") from error
        quiet(f"After {name}")
        print(f"{name}: agrees with the data" if name not in ("the theme", "a phone", "print") else f"{name}: ok")
    # The content security policy must work: the browser must refuse a request of the page before it is sent.
    page.evaluate("fetch('https://example.invalid/').catch(() => null)")
    page.wait_for_timeout(200)
    refused = page.evaluate("window.violations.some(text => text.startsWith('connect-src'))")
    check(refused, "The content security policy lets the page make requests.")
    context.close()
    timings(browser, url, data, 5 if arguments.large else 1)
    if arguments.screenshots:
        screenshots(browser, url, arguments.screenshots)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        print(failure)
        sys.exit(1)
