"""The page's arithmetic of prices, against the server's."""

from __future__ import annotations

import itertools
import json
import subprocess

from conftest import ROOT
from test_web import needs_node, node

from nodes.api.request.capabilities import DURATIONS, MODELS
from nodes.api.spending import prices
from nodes.routes.facts import facts

SCRIPT = """
const [at, facts, tariffs] = JSON.parse(require("fs").readFileSync(0, "utf-8"));
import(at).then(({ inUsd, listPrice, shortUnits }) => {
    const answers = tariffs.map((tariff) => {
        const units = listPrice(facts.prices, tariff);
        return units === null ? null : [units, inUsd(facts.prices, units), shortUnits(units)];
    });
    console.log(JSON.stringify(answers));
});
"""


def priced(tariff: prices.Tariff) -> list[object] | None:
    units = prices.estimate({**tariff._asdict(), "duration": str(tariff.seconds)})
    return None if units is None else [units, prices.in_usd(units), f"{units:g}"]


@needs_node
def test_the_page_and_the_server_agree_on_every_price() -> None:
    models, seconds = [*MODELS, "kling-v9", ""], [0, 1, *DURATIONS, 16]
    tariffs = [prices.Tariff(*of) for of in itertools.product(models, ("std", "pro", "4k"), ("on", "off"), seconds)]
    module = (ROOT / "web" / "js" / "graph" / "price.js").as_uri()
    given = json.dumps([module, facts(), [tariff._asdict() for tariff in tariffs]])
    assert node
    done = subprocess.run([node, "-e", SCRIPT], input=given, capture_output=True, encoding="utf-8", check=True)
    found = json.loads(done.stdout)
    assert found == [priced(tariff) for tariff in tariffs]
    assert sum(price is not None for price in found) > len(prices.PRICES)
