/** What a task costs by Kling's price list, and what was last paid here. The server computes the same in prices.py. */

/**
 * @param prices {usd_per_unit, list} from GET /kling/models
 * @param tariff {model_name, mode, sound, seconds}
 * @returns units, or null if the list has no price
 */
export function listPrice({ list }, { model_name, mode, sound, seconds }) {
  const price = list.find((entry) => entry.model_name === model_name && entry.mode === mode && entry.sound === sound);
  if (!price) return null;
  if (price.second !== null) return Number.isFinite(seconds) ? round(price.second * seconds) : null;
  // A file may hold any value, also one that every object has as a member.
  return Object.hasOwn(price.lengths, seconds) ? price.lengths[seconds] : null;
}

/**
 * @param paid `last_paid` from GET /kling/spending
 * @returns the units that the last task of this tariff was charged, or null
 */
export function lastPaid(paid, tariff) {
  const same = (entry) => ["model_name", "mode", "sound", "seconds"].every((name) => entry[name] === tariff[name]);
  return paid.find(same)?.units ?? null;
}

/** Units at Kling's list price, in USD. */
export function inUsd({ usd_per_unit }, units) {
  return round(units * usd_per_unit);
}

/**
 * How much of the limits is used.
 *
 * @param spending the answer of GET /kling/spending
 * @param units what the next task costs, if that is known
 * @returns {{key: string, values: {used, limit}, full: boolean}[]} one for each limit; each key names a text under
 *   kling.price; full: the next task would exceed the limit
 */
export function limitUse({ tasks, tasks_per_hour, units: used, units_per_day }, units = 0) {
  const use = [];
  if (tasks_per_hour) {
    use.push({ key: "tasks_used", values: { used: tasks, limit: tasks_per_hour }, full: tasks >= tasks_per_hour });
  }
  if (units_per_day) {
    const full = used >= units_per_day || used + units > units_per_day;
    use.push({ key: "units_used", values: { used: shortUnits(used), limit: units_per_day }, full });
  }
  return use;
}

/** An amount of units to show, without the noise of binary fractions. */
export function shortUnits(units) {
  return String(Number(units.toPrecision(6)));
}

/** An amount in words, such as `7.2 units`. @param text from createTexts */
export function amountOf(units, text) {
  return units === 1 ? text("price.one_unit") : text("price.units", { units: shortUnits(units) });
}

function round(value) {
  return Math.round(value * 1e4) / 1e4;
}
