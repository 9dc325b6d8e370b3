// Captions to token ids, the same ones as data/tokenizer.py of ssagan_jax computes.

const ACCENTS = /[\u0300-\u036f\u20d0-\u20ff\ufe00-\ufe0f]/gu;
const WORD = /[\p{L}\p{N}_][\p{Alphabetic}\p{M}\p{N}\p{Pc}]*/gu;
const LISTED_WORD = /[\p{L}\p{N}_]+/gu;
const FOREIGN = "(?:(?![\\x00-\\x7f])[\\p{L}\\p{N}])+";
const FOREIGN_IN_WORD = new RegExp(`(?<=[a-z0-9_])${FOREIGN}|${FOREIGN}(?=[a-z0-9_])`, "gu");
const CJK = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;
// All of ASCII's marks count, also those that Unicode calls symbols, such as "$".
const PUNCTUATION = /[!-/:-@[-`{-~\p{P}]/u;

// One character at a time, without regard to its neighbors, unlike String.toLowerCase.
const lower = (text) => Array.from(text, (letter) => letter.toLowerCase()).join("");

export class Tokenizer {
  // file: the content of tokenizer.json.
  constructor(file) {
    const { model, normalizer, added_tokens: added } = file.tokenizer;
    this.kind = file.kind;
    this.learned = file.learned;
    this.vocabulary = new Map(Object.entries(model.vocab));
    this.unknown = this.vocabulary.get(model.unk_token);
    this.options = normalizer;
    this.longest = model.max_input_chars_per_word;
    const padding = { words: "<pad>", listed_words: "<end>", wordpiece: "[PAD]" }[file.kind];
    this.padding = this.vocabulary.get(padding);
    this.special = new Map(added.map((token) => [token.content, token.id]));
  }

  // Each word of a caption, and the ids of its parts.
  split(caption) {
    if (this.kind === "wordpiece") return this.#splitPieces(caption);
    const listed = this.kind === "listed_words";
    const text = listed
      ? lower(caption).replace(FOREIGN_IN_WORD, "")
      : lower(caption.normalize("NFD").replace(ACCENTS, ""));
    return (text.match(listed ? LISTED_WORD : WORD) ?? []).map((word) => {
      const id = this.vocabulary.get(word) ?? this.unknown;
      return { word, ids: listed && id === this.unknown ? [] : [id], known: id !== this.unknown };
    });
  }

  // Token ids i32[length] and mask u8[length] of a caption; throws if it has no known word.
  encode(caption, length) {
    const ids = this.split(caption).flatMap((part) => part.ids).slice(0, length);
    if (!ids.length) throw new Error("The caption has no word that the model knows.");
    const tokens = new Int32Array(length).fill(this.padding);
    tokens.set(ids);
    return { tokens, mask: new Uint8Array(length).fill(1, 0, ids.length) };
  }

  // Words that did not occur in training, each once, in lower case.
  unknownWords(caption) {
    const unknown = this.split(caption).filter(
      (part) => !part.known || (this.learned && part.ids.length > 1),
    );
    return [...new Set(unknown.map((part) => part.word))].filter((word) => /[\p{L}\p{N}]/u.test(word));
  }

  #splitPieces(caption) {
    // "[SEP]" and the like in a caption are tokens.
    const names = [...this.special.keys()].map((name) => name.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
    const pattern = new RegExp(`(${names.join("|")})`, "u");
    const parts = names.length ? caption.split(pattern) : [caption];
    return parts.flatMap((part) => {
      const id = this.special.get(part);
      if (id !== undefined) return [{ word: part, ids: [id], known: id !== this.unknown }];
      return this.#words(part).map((word) => {
        const ids = this.#pieces(word);
        return { word, ids, known: !ids.includes(this.unknown) };
      });
    });
  }

  // BertNormalizer and BertPreTokenizer.
  #words(text) {
    const { clean_text: clean, handle_chinese_chars: cjk, lowercase } = this.options;
    if (clean) {
      text = text.replace(/(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}\ufffd]/gu, "").replace(/\p{White_Space}/gu, " ");
    }
    if (cjk) text = text.replace(CJK, " $& ");
    if (this.options.strip_accents ?? lowercase) text = text.normalize("NFD").replace(/\p{Mn}/gu, "");
    if (lowercase) text = lower(text);
    const words = [];
    for (const chunk of text.split(/\p{White_Space}+/u)) {
      let word = "";
      for (const letter of chunk) {
        if (PUNCTUATION.test(letter)) {
          if (word) words.push(word);
          words.push(letter);
          word = "";
        } else {
          word += letter;
        }
      }
      if (word) words.push(word);
    }
    return words;
  }

  // WordPiece: the longest entry that the rest of the word starts with, again and again.
  #pieces(word) {
    const letters = Array.from(word);
    if (letters.length > this.longest) return [this.unknown];
    const ids = [];
    for (let start = 0; start < letters.length; ) {
      let end = letters.length;
      const id = () => this.vocabulary.get((start ? "##" : "") + letters.slice(start, end).join(""));
      while (end > start && id() === undefined) end -= 1;
      if (end === start) return [this.unknown];
      ids.push(id());
      start = end;
    }
    return ids;
  }
}
