/** Which inputs of KlingText2Video the chosen model does not use, and which values it will refuse. */

/**
 * @param facts the answer of GET /kling/models: {models, camera}
 * @param values {model_name, mode, duration, sound}; unknown ones are left out
 * @param connected names of the connected sockets (camera_control, multi_shot)
 * @returns {{unused: {by: "model"|"shots", inputs: string[]}[], wrong: {key: string, values: object}[],
 *   notes: {key: string, values: object}[]}} each key names a text under kling.marks
 */
export function inputMarks(facts, values, connected) {
  const name = values.model_name;
  if (name === undefined) return { unused: [], wrong: [], notes: [] };
  // A file may name any model, also one that every object has as a member.
  if (!Object.hasOwn(facts.models, name)) return { unused: [], wrong: [], notes: [{ key: "unknown_model", values: {} }] };
  const model = facts.models[name];
  const storyboard = connected.has("multi_shot");
  const byModel = [];
  const wrong = [];
  const notes = [];

  if (!model.sound && values.sound === "on") wrong.push({ key: "sound", values: { model: name } });
  else if (!model.sound) byModel.push("sound");

  if (!model.cfg_scale) byModel.push("cfg_scale");

  if (!storyboard && values.duration !== undefined && !model.durations.includes(values.duration)) {
    wrong.push({ key: "duration", values: { model: name, value: values.duration, allowed: range(model.durations) } });
  }

  if (model.camera_control === "no") {
    if (connected.has("camera_control")) wrong.push({ key: "camera_model", values: { model: name } });
    else byModel.push("camera_control");
  } else if (connected.has("camera_control")) {
    const { mode, duration } = facts.camera;
    const fits = fitsOrUnknown(values.mode, mode) && fitsOrUnknown(values.duration, duration);
    if (model.camera_control === "disputed") notes.push({ key: "camera_disputed", values: { model: name } });
    else if (!fits) wrong.push({ key: "camera_only", values: { model: name, mode, duration } });
  }

  if (!model.multi_shot && storyboard) {
    const able = Object.keys(facts.models).filter((other) => facts.models[other].multi_shot);
    wrong.push({ key: "multi_shot", values: { model: name, able: able.join(", ") } });
  } else if (!model.multi_shot) {
    byModel.push("multi_shot");
  }

  const unused = [];
  if (byModel.length) unused.push({ by: "model", inputs: byModel });
  if (storyboard && model.multi_shot) unused.push({ by: "shots", inputs: ["prompt", "duration"] });
  return { unused, wrong, notes };
}

function fitsOrUnknown(value, wanted) {
  return value === undefined || value === wanted;
}

/** Seconds in short: `5, 10`, or `3–15` for a range without gaps. */
function range(seconds) {
  const last = seconds[seconds.length - 1];
  return seconds.length > 2 && last - seconds[0] === seconds.length - 1 ? `${seconds[0]}–${last}` : seconds.join(", ");
}
