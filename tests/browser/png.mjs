// A picture of a page with 256 colours at most, which takes a third of the bytes and looks the same.

import { crc32, deflateSync, inflateSync } from "node:zlib";

const SIGNATURE = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
const MOST_COLOURS = 256;
/** Colours that are as near to each other (as squares of distances) are one, so that a small thing of another colour keeps its own. */
const NEAR = 25;
const PIXEL = 3;

/** Takes the PNG of a screenshot: 8 bits a channel, no transparency. */
export function withFewColours(png) {
  // They stand in the first chunk.
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
  const rows = pixels(png, width, height);
  const counts = new Map();
  for (const row of rows) for (const colour of row) counts.set(colour, (counts.get(colour) ?? 0) + 1);
  const palette = paletteOf([...counts].sort(([, a], [, b]) => b - a).map(([colour]) => colour));
  const places = new Map([...counts.keys()].map((colour) => [colour, nearest(palette, colour)]));
  const lines = rows.map((row) => Buffer.from([0, ...row.map((colour) => places.get(colour))]));
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8);
  const colours = Buffer.from(palette.flatMap(channels));
  const parts = [["IHDR", head], ["PLTE", colours], ["IDAT", deflateSync(Buffer.concat(lines), { level: 9 })], ["IEND", Buffer.alloc(0)]];
  return Buffer.concat([SIGNATURE, ...parts.map(chunk)]);
}

function pixels(png, width, height) {
  const packed = [];
  for (let at = SIGNATURE.length; at < png.length; at += 12 + png.readUInt32BE(at)) {
    if (png.toString("latin1", at + 4, at + 8) === "IDAT") packed.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  }
  const raw = inflateSync(Buffer.concat(packed));
  const stride = 1 + width * PIXEL;
  if (raw.length !== height * stride) throw new Error("not a picture with three channels of 8 bits");
  let above = new Uint8Array(width * PIXEL);
  return Array.from({ length: height }, (_, y) => {
    above = unfilter(raw[y * stride], raw.subarray(y * stride + 1, (y + 1) * stride), above);
    return Array.from({ length: width }, (_, x) => (above[x * PIXEL] << 16) | (above[x * PIXEL + 1] << 8) | above[x * PIXEL + 2]);
  });
}

/** A line without its filter, which says each byte by its neighbours. */
function unfilter(kind, line, above) {
  const out = new Uint8Array(line.length);
  for (let i = 0; i < line.length; i += 1) {
    const [left, up, corner] = [i < PIXEL ? 0 : out[i - PIXEL], above[i], i < PIXEL ? 0 : above[i - PIXEL]];
    out[i] = line[i] + [0, left, up, (left + up) >> 1, paeth(left, up, corner)][kind];
  }
  return out;
}

function paeth(left, up, corner) {
  const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}

/** Of the colours, the most frequent first. */
function paletteOf(colours) {
  const palette = [];
  for (const colour of colours) {
    if (palette.length === MOST_COLOURS) break;
    if (palette.every((other) => distance(other, colour) > NEAR)) palette.push(colour);
  }
  return palette;
}

function nearest(palette, colour) {
  return palette.reduce((best, other, index) => (distance(other, colour) < distance(palette[best], colour) ? index : best), 0);
}

function distance(a, b) {
  const [one, other] = [channels(a), channels(b)];
  return one.reduce((sum, value, index) => sum + (value - other[index]) ** 2, 0);
}

function channels(colour) {
  return [colour >> 16, (colour >> 8) & 255, colour & 255];
}

function chunk([name, data]) {
  const body = Buffer.concat([Buffer.from(name, "latin1"), data]);
  const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  check.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, check]);
}
