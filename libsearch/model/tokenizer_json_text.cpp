// tokenizer.json: normalizer and pre_tokenizer.
#include <fmt/format.h>

#include "libsearch/model/tokenizer_json.h"

namespace mi::search {
namespace {

// Expressions are those of Oniguruma, or plain text.
Result<Regex> read_pattern(const JsonObject& part) {
  MI_TRY(const JsonObject pattern, part.object("pattern"));
  const bool expression = pattern.has("Regex");
  MI_TRY(const std::string text, pattern.string(expression ? "Regex" : "String"));
  auto regex = expression ? Regex::compile(text) : Regex::literal(text);
  if (regex) return regex;
  return fail(regex.error().code, fmt::format("{}: {}", part.place("pattern"), regex.error().what));
}

bool is_space(const JsonObject& part) {
  const Json* pattern = part.find("pattern");
  return pattern != nullptr && *pattern == Json{{"String", " "}};
}

class NormalizerReader {
 public:
  NormalizerReader(Normalizer& out, TextSteps& steps) : out_(out), steps_(steps) {}

  [[nodiscard]] Status read(const JsonObject& part) {
    MI_TRY(const std::string type, part.string("type"));
    if (type == "Sequence") return read_sequence(part);
    if (type == "NFC") return add(Normalizer::Nfc{});
    if (type == "Prepend") {
      MI_TRY(const std::string prefix, part.string("prepend"));
      return add(Normalizer::Prepend{prefix});
    }
    if (type == "Replace") {
      MI_TRY(const std::string to, part.string("content"));
      MI_TRY(Regex from, read_pattern(part));
      if (is_space(part) && to == kMetaspace) steps_.spaces_replaced = true;
      return add(Normalizer::Replace{std::move(from), to});
    }
    if (type == "Strip") {
      // Text that begins later than it did has no Metaspace::Prefix::first.
      MI_TRY(const bool left, part.boolean("strip_left", false));
      if (left) return unsupported(part, "strip_left", "true", "false");
      MI_TRY(const bool right, part.boolean("strip_right", false));
      return right ? add(Normalizer::StripRight{}) : Status{};
    }
    return unsupported(part, "type", type, "none, NFC, Prepend, Replace, Sequence, Strip");
  }

 private:
  [[nodiscard]] Status read_sequence(const JsonObject& part) {
    MI_TRY(const Json* list, part.array("normalizers"));
    for (const Json& value : *list) {
      MI_TRY(const JsonObject inner, JsonObject::of(value, part.place("normalizers")));
      MI_CHECK(read(inner));
    }
    return {};
  }
  [[nodiscard]] Status add(Normalizer::Step step) {
    out_.add(std::move(step));
    return {};
  }
  Normalizer& out_;
  TextSteps& steps_;
};

// Metaspace, in its own words: what prepend_scheme says, or add_prefix_space before that.
Result<Metaspace> read_metaspace(const JsonObject& part) {
  Metaspace metaspace;
  MI_TRY(const std::string replacement, part.string("replacement"));
  if (replacement != kMetaspace) return unsupported(part, "replacement", replacement, "\u2581");
  MI_TRY(const bool prefix, part.boolean("add_prefix_space", true));
  MI_TRY(const std::string scheme, part.string("prepend_scheme", prefix ? "always" : "never"));
  using Prefix = Metaspace::Prefix;
  if (scheme == "always") {
    metaspace.prefix = Prefix::always;
  } else if (scheme == "first") {
    metaspace.prefix = Prefix::first;
  } else if (scheme != "never") {
    return unsupported(part, "prepend_scheme", scheme, "always, first, never");
  }
  MI_TRY(metaspace.split, part.boolean("split", true));
  return metaspace;
}

// Pre-tokenizer parts append their steps; the alphabet is applied by the last.
class PreTokenizerReader {
 public:
  PreTokenizerReader(TokenizerParts& parts, TextSteps& steps) : parts_(parts), steps_(steps) {}

  [[nodiscard]] Status read(const JsonObject& part) {
    MI_TRY(const std::string type, part.string("type"));
    return read(type, part);
  }

 private:
  [[nodiscard]] Status read(const std::string& type, const JsonObject& part) {
    if (steps_.byte_level || parts_.metaspace)
      return unsupported(part, "type",
                         type + (steps_.byte_level ? " after ByteLevel" : " after Metaspace"),
                         "these two last");
    if (type == "Sequence") return read_sequence(part);
    if (type == "ByteLevel") return read_byte_level(part);
    if (type == "Digits") return read_digits(part);
    if (type == "Split") return read_split(part);
    if (type == "Metaspace") return read_metaspace(part);
    if (type == "WhitespaceSplit") return add(Regex::compile(R"(\S+)"), true);
    return unsupported(part, "type", type,
                       "ByteLevel, Digits, Split, Sequence, Metaspace, WhitespaceSplit");
  }
  [[nodiscard]] Status read_sequence(const JsonObject& part) {
    MI_TRY(const Json* list, part.array("pretokenizers"));
    for (const Json& value : *list) {
      MI_TRY(const JsonObject inner, JsonObject::of(value, part.place("pretokenizers")));
      MI_CHECK(read(inner));
    }
    return {};
  }

  [[nodiscard]] Status read_byte_level(const JsonObject& part) {
    steps_.byte_level = true;
    MI_TRY(const bool prefix_space, part.boolean("add_prefix_space", true));
    MI_TRY(const bool use_regex, part.boolean("use_regex", true));
    if (prefix_space) parts_.pre_tokenizer.add_prefix_space_here();
    return use_regex ? add(Regex::compile(kGpt2Words), false) : Status{};
  }

  [[nodiscard]] Status read_digits(const JsonObject& part) {
    MI_TRY(const bool individual, part.boolean("individual_digits", false));
    return add(Regex::compile(individual ? R"(\p{N})" : R"(\p{N}+)"), false);
  }

  [[nodiscard]] Status read_metaspace(const JsonObject& part) {
    MI_TRY(parts_.metaspace, search::read_metaspace(part));
    steps_.spaces_replaced = true;
    return {};
  }

  [[nodiscard]] Status read_split(const JsonObject& part) {
    MI_TRY(const std::string behavior, part.string("behavior"));
    MI_TRY(const bool invert, part.boolean("invert", false));
    // Gemma's: its normalizer leaves no space to split at.
    if (behavior == "MergedWithPrevious" && !invert && steps_.spaces_replaced && is_space(part))
      return {};
    const bool keep_matches = behavior == "Removed" && invert;
    if (behavior != "Isolated" && !keep_matches) {
      return unsupported(part, "behavior", behavior, "Isolated, Removed with invert");
    }
    return add(read_pattern(part), keep_matches);
  }

  [[nodiscard]] Status add(Result<Regex> regex, bool matches_only) {
    if (!regex) return regex.error();
    parts_.pre_tokenizer.add({*std::move(regex), matches_only});
    return {};
  }

  TokenizerParts& parts_;
  TextSteps& steps_;
};

}  // namespace

Result<TextSteps> read_text_steps(const JsonObject& root, TokenizerParts& parts) {
  TextSteps steps;
  if (root.has("normalizer")) {
    MI_TRY(const JsonObject normalizer, root.object("normalizer"));
    MI_CHECK(NormalizerReader(parts.normalizer, steps).read(normalizer));
  }
  if (root.has("pre_tokenizer")) {
    MI_TRY(const JsonObject pre_tokenizer, root.object("pre_tokenizer"));
    MI_CHECK(PreTokenizerReader(parts, steps).read(pre_tokenizer));
  }
  return steps;
}

}  // namespace mi::search
