#include "libsearch/report/report_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <new>

#include <fmt/format.h>

#include "libruntime/atomic_file.h"
#include "libruntime/yaml_reader.h"
#include "libsearch/model/json_reader.h"
#include "libsearch/model/sha256.h"
#include "libsearch/data/h5_image.h"
#include "libsearch/data/sample.h"

namespace mi::search {
namespace {

constexpr std::string_view kSchema = "mi.report";
constexpr size_t kBlockBytes = 512;  // the smallest user block
constexpr std::string_view kDigestWord = "mi.report sha256:";
constexpr size_t kDigestChars = 64;
// 80 layers x 64 heads x 216 candidates x 120 samples.
constexpr uint64_t kMaxScores = uint64_t{1} << 27;
// Deflate packs 1032 to 1 at best: a file cannot hold more floats of one field per byte.
constexpr uint64_t kMostFloatsPerByte = 258;
constexpr int64_t kMaxCount = 1 << 20;  // of layers, heads, rows
constexpr size_t kMaxBytes = size_t{1} << 33;
constexpr int64_t kMaxSeed = int64_t{1} << 53;

std::span<const ScoreField> fields_of(bool extras) {
  return std::span(kScoreFields).first(kScoreFields.size() - (extras ? 0 : 1));
}

Json notes_json(const std::vector<runtime::SampleNote>& notes) {
  Json out = Json::array();
  for (const runtime::SampleNote& note : notes)
    out.push_back({{"source", note.source}, {"tokens", note.tokens}, {"sha256", note.sha256}});
  return out;
}

Json model_json(const runtime::HeadConfig::Model& model) {
  Json out = {{"name", model.name},
              {"architecture", model.architecture},
              {"layers", model.layers},
              {"heads", model.heads},
              {"kv_heads", model.kv_heads},
              {"head_dim", model.head_dim},
              {"rope_theta", model.rope_theta},
              {"fingerprint", model.fingerprint}};
  if (model.scale > 0) out["scale"] = model.scale;
  if (model.softcap > 0) out["softcap"] = model.softcap;
  if (!model.attention_layers.empty()) out["attention_layers"] = model.attention_layers;
  return out;
}

Json about(const ScoreReport& report) {
  return {{"tool", "mi-search " MI_VERSION},
          {"model", model_json(report.model)},
          {"backend", report.backend},
          {"options", report.options},
          {"seed", report.seed},
          {"last", report.last},
          {"squares", report.extras},
          {"samples", notes_json(report.samples)},
          {"held_out", notes_json(report.held_out)},
          {"warnings", report.warnings},
          {"scored", report.table.samples.size()},
          {"forward_seconds", report.table.forward_seconds},
          {"score_seconds", report.table.score_seconds},
          {"peak_bytes", report.table.peak_bytes}};
}

std::array<uint64_t, 4> extent_of(const ScoreReport& report, size_t scored) {
  return {scored, static_cast<uint64_t>(report.model.layers),
          static_cast<uint64_t>(report.model.heads), report.space.candidates()};
}

Result<std::vector<runtime::SampleNote>> read_notes(const JsonObject& object,
                                                    std::string_view key) {
  std::vector<runtime::SampleNote> notes;
  MI_TRY(const Json* list, object.array(key));
  for (size_t i = 0; i < list->size(); ++i) {
    MI_TRY(const JsonObject item,
           JsonObject::of((*list)[i], fmt::format("{}[{}]", object.place(key), i)));
    runtime::SampleNote note;
    MI_TRY(note.source, item.string("source"));
    MI_TRY(note.tokens, item.integer("tokens", 1, kMaxLength));
    MI_TRY(note.sha256, item.string("sha256"));
    notes.push_back(std::move(note));
  }
  return notes;
}

Result<runtime::HeadConfig::Model> read_model(const JsonObject& object) {
  runtime::HeadConfig::Model model;
  const auto count = [&](std::string_view key, int& value) -> Status {
    MI_TRY(const int64_t found, object.integer(key, 1, kMaxCount));
    value = static_cast<int>(found);
    return {};
  };
  MI_TRY(model.name, object.string("name"));
  MI_TRY(model.architecture, object.string("architecture"));
  MI_CHECK(count("layers", model.layers));
  MI_CHECK(count("heads", model.heads));
  MI_CHECK(count("kv_heads", model.kv_heads));
  MI_CHECK(count("head_dim", model.head_dim));
  MI_TRY(model.rope_theta, object.number("rope_theta"));
  const auto positive = [&](std::string_view key, double& value) -> Status {
    if (!object.has(key)) return {};
    MI_TRY(value, object.number(key));
    if (!(value > 0)) return object.wrong(key, "a number above 0");
    return {};
  };
  MI_CHECK(positive("scale", model.scale));
  MI_CHECK(positive("softcap", model.softcap));
  if (object.has("attention_layers")) {
    MI_TRY(const Json* list, object.array("attention_layers"));
    int last = -1;
    for (const Json& layer : *list) {
      if (!layer.is_number_integer() || layer.get<int64_t>() <= last ||
          layer.get<int64_t>() >= kMaxCount)
        return object.wrong("attention_layers", "rising numbers of layers");
      last = layer.get<int>();
      model.attention_layers.push_back(last);
    }
    if (std::ssize(*list) != model.layers)
      return object.wrong("attention_layers", "as many as layers");
  }
  MI_TRY(model.fingerprint, object.string("fingerprint"));
  return model;
}

// All but the candidates and the scores; how many samples are scored goes to `scored`.
Result<ScoreReport> read_about(std::string_view text, const std::string& place, size_t& scored) {
  MI_TRY(const Json json, parse_json(text, place));
  MI_TRY(const JsonObject object, JsonObject::of(json, place));
  ScoreReport report;
  MI_TRY(const JsonObject model, object.object("model"));
  MI_TRY(report.model, read_model(model));
  MI_TRY(report.backend, object.string("backend"));
  MI_TRY(report.options, object.string("options"));
  MI_TRY(const int64_t seed, object.integer("seed", 0, kMaxSeed));
  report.seed = static_cast<uint64_t>(seed);
  MI_TRY(report.last, object.integer("last", 0, kMaxLength));
  MI_TRY(report.extras, object.boolean("squares", false));
  MI_TRY(report.samples, read_notes(object, "samples"));
  MI_TRY(report.held_out, read_notes(object, "held_out"));
  MI_TRY(const Json* warnings, object.array("warnings"));
  for (const Json& warning : *warnings) {
    if (!warning.is_string()) return object.wrong("warnings", "a list of texts");
    report.warnings.push_back(warning.get<std::string>());
  }
  MI_TRY(const int64_t count,
         object.integer("scored", 0, static_cast<int64_t>(report.samples.size())));
  scored = static_cast<size_t>(count);
  MI_TRY(report.table.forward_seconds, object.number("forward_seconds"));
  MI_TRY(report.table.score_seconds, object.number("score_seconds"));
  MI_TRY(report.table.peak_bytes, object.integer("peak_bytes", 0, int64_t{1} << 60, 0));
  return report;
}

Status check_values(const ScoreField& field, const std::vector<float>& values,
                    std::string_view file) {
  for (const float value : values)
    if (!(value >= 0) || !std::isfinite(value))
      return fail(Code::schema, fmt::format("{}: scores/{}: found {}, expected numbers from 0 up",
                                            file, field.name, value));
  return {};
}

std::array<uint64_t, 4> extent_of(const HeadPictures& pictures) {
  const auto cells = static_cast<uint64_t>(pictures.cells);
  return {static_cast<uint64_t>(pictures.config.model.layers),
          static_cast<uint64_t>(pictures.config.model.heads), cells, cells};
}

Result<HeadPictures> read_pictures(const H5Reader& reader, size_t image_bytes,
                                   const runtime::HeadConfig::Model& model, std::string_view file) {
  const std::string place = fmt::format("{}: pictures/about", file);
  MI_TRY(const Json json, parse_json(reader.text("pictures/about"), place));
  MI_TRY(const JsonObject object, JsonObject::of(json, place));
  HeadPictures pictures;
  MI_TRY(pictures.source, object.string("source"));
  MI_TRY(pictures.tokens, object.integer("tokens", 1, kMaxLength));
  MI_TRY(pictures.cells, object.integer("cells", 1, kPictureCells));
  MI_TRY(pictures.config, runtime::parse_config(reader.text("pictures/config"),
                                                fmt::format("{}: pictures/config", file)));
  if (!(pictures.config.model == model))
    return fail(Code::schema,
                fmt::format("{}: pictures/config: found another model, expected {} as in about",
                            file, model.name));
  const auto extent = extent_of(pictures);
  const uint64_t count = extent[0] * extent[1] * extent[2] * extent[3];
  if (count > kMostFloatsPerByte * image_bytes)
    return fail(Code::schema, fmt::format("{}: found {} picture cells in {} bytes, expected fewer",
                                          file, count, image_bytes));
  for (size_t p = 0; p < pictures.planes.size(); ++p) {
    const std::string path = fmt::format("pictures/{}", HeadPictures::kNames[p]);
    pictures.planes[p] = reader.floats(path, extent);
    for (const float value : pictures.planes[p])
      if (!(value >= 0 && value <= 1.01F))
        return fail(Code::schema, fmt::format("{}: {}: found {}, expected numbers from 0 to 1",
                                              file, path, value));
  }
  return pictures;
}

Result<ScoreReport> read_image(std::string_view image, std::string_view file) {
  const H5Reader reader(image);
  const std::string schema = reader.text_attribute("schema");
  const int64_t version = reader.integer_attribute("schema_version");
  if (schema != kSchema || version != kReportVersion)
    return fail(Code::schema, fmt::format("{}: found schema {} version {}, expected {} version {}",
                                          file, schema, version, kSchema, kReportVersion));
  size_t scored = 0;
  MI_TRY(ScoreReport report,
         read_about(reader.text("about"), fmt::format("{}: about", file), scored));
  MI_TRY(report.space,
         parse_candidates(reader.text("candidates"), fmt::format("{}: candidates", file)));
  const auto extent = extent_of(report, scored);
  uint64_t count = 1;
  for (const uint64_t size : extent) {
    count *= size;  // each factor is at most 2^20, or 254 times the families
    if (count > std::min(kMaxScores, kMostFloatsPerByte * image.size()))
      return fail(Code::schema, fmt::format("{}: found more than {} scores in {} bytes, expected "
                                            "fewer",
                                            file, count - 1, image.size()));
  }
  for (const ScoreField& field : fields_of(report.extras)) {
    const std::vector<float> values = reader.floats(fmt::format("scores/{}", field.name), extent);
    MI_CHECK(check_values(field, values, file));
    if (report.table.samples.empty())  // the extent is the file's own, not only a claim
      for (size_t s = 0; s < scored; ++s)
        report.table.samples.push_back(
            {report.samples[s].tokens,
             {extent[1], std::vector(extent[2], std::vector<CandidateScore>(extent[3]))}});
    size_t at = 0;
    for (SampleScores& sample : report.table.samples)
      for (auto& layer : sample.layers)
        for (auto& head : layer)
          for (CandidateScore& score : head) score.*field.value = static_cast<double>(values[at++]);
  }
  for (SampleScores& sample : report.table.samples)
    keep_stored(sample, report.space, report.model.head_dim);
  if (reader.has("pictures")) {
    MI_TRY(report.pictures, read_pictures(reader, image.size(), report.model, file));
  }
  return report;
}

void write_pictures(const HeadPictures& pictures, H5Writer& writer) {
  writer.group("pictures");
  const Json about = {
      {"source", pictures.source}, {"tokens", pictures.tokens}, {"cells", pictures.cells}};
  writer.text("pictures/about", about.dump(1, ' ', false, Json::error_handler_t::replace));
  writer.text("pictures/config", runtime::dump_config(pictures.config));
  const auto extent = extent_of(pictures);
  const std::array<uint64_t, 4> chunk = {1, extent[1], extent[2], extent[3]};
  for (size_t p = 0; p < pictures.planes.size(); ++p)
    writer.floats(fmt::format("pictures/{}", HeadPictures::kNames[p]), extent, chunk,
                  pictures.planes[p]);
}

}  // namespace

Result<ScoreReport> parse_report(std::string_view bytes, std::string_view file) try {
  const auto damaged = [&](std::string_view found) {
    return fail(
        Code::schema,
        fmt::format("{}: found {}, expected a score report (written by mi-search)", file, found));
  };
  if (bytes.size() <= kBlockBytes) return damaged(fmt::format("{} bytes", bytes.size()));
  if (!bytes.starts_with(kDigestWord)) return damaged("another kind of file");
  const std::string_view image = bytes.substr(kBlockBytes);
  MI_TRY(const std::string digest, sha256_hex(image));
  if (bytes.substr(kDigestWord.size(), kDigestChars) != digest)
    return damaged("bytes that were cut short or changed");
  return read_image(image, file);
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, fmt::format("{}: not enough memory to read it", file));
} catch (const std::exception& error) {
  return fail(Code::schema, fmt::format("{}: {}", file, error.what()));
}

Result<ScoreReport> load_report(const std::filesystem::path& path) {
  MI_TRY(const std::string bytes, runtime::read_text_file(path, kMaxBytes, kDigestWord));
  return parse_report(bytes, path.string());
}

Result<std::string> dump_report(const ScoreReport& report) try {
  H5Writer writer;
  writer.attribute("schema", kSchema);
  writer.attribute("schema_version", kReportVersion);
  writer.text("about", about(report).dump(1, ' ', false, Json::error_handler_t::replace));
  writer.text("candidates", dump_candidates(report.space));
  writer.group("scores");
  const auto extent = extent_of(report, report.table.samples.size());
  const std::array<uint64_t, 4> chunk = {1, 1, extent[2], extent[3]};
  std::vector<float> values;
  for (const ScoreField& field : fields_of(report.extras)) {
    values.clear();
    for (const SampleScores& sample : report.table.samples)
      for (const auto& layer : sample.layers)
        for (const auto& head : layer)
          for (const CandidateScore& score : head)
            values.push_back(static_cast<float>(score.*field.value));
    writer.floats(fmt::format("scores/{}", field.name), extent, chunk, values);
  }
  if (report.pictures) write_pictures(*report.pictures, writer);
  const std::string image = writer.bytes();
  MI_TRY(const std::string digest, sha256_hex(image));
  std::string bytes = fmt::format("{}{}\n", kDigestWord, digest);
  bytes.resize(kBlockBytes, '\n');
  return bytes + image;
} catch (const std::bad_alloc&) {
  return fail(Code::out_of_memory, "score report: not enough memory");
} catch (const std::exception& error) {
  return fail(Code::internal, fmt::format("score report: {}", error.what()));
}

Status save_report(const ScoreReport& report, const std::filesystem::path& path) {
  MI_TRY(const std::string bytes, dump_report(report));
  return runtime::write_file_atomically(path, bytes);
}

}  // namespace mi::search
