#include "libsearch/model/sentencepiece.h"

#include <cmath>
#include <vector>

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include "libsearch/model/charsmap.h"
#include "libsearch/model/protobuf.h"

namespace mi::search {
namespace {

// Of the message ModelProto, and of NormalizerSpec in it.
constexpr uint64_t kNormalizer = 3;
constexpr uint64_t kCharsmap = 2;
// Messages that follow each other are one, where the last value of a field counts: this one says
// that add_dummy_prefix of the NormalizerSpec is false.
constexpr std::string_view kNoPrefix("\x1a\x02\x18\x00", 4);

// What the library would take at its word.
Status check(std::string_view model, const std::string& file) {
  // tiktoken's lists, of Llama 3 and GLM-4, have the same name.
  if (model.starts_with("IQ== 0\n"))
    return fail(Code::unsupported,
                file + ": got a list of tiktoken, supported: SentencePiece's model");
  MI_TRY(const auto fields, read_protobuf(model, file));
  for (const ProtobufField& field : fields) {
    if (field.number != kNormalizer) continue;
    MI_TRY(const auto inner, read_protobuf(field.bytes, file + ": normalizer_spec"));
    for (const ProtobufField& part : inner)
      if (part.number == kCharsmap && !part.bytes.empty())
        MI_CHECK(check_charsmap(part.bytes, file + ": precompiled_charsmap"));
  }
  return {};
}

Result<std::unique_ptr<sentencepiece::SentencePieceProcessor>> load(std::string_view model,
                                                                    const std::string& file) {
  auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
  std::string reason;
  try {
    const auto status = processor->LoadFromSerializedProto(model);
    if (!status.ok()) reason = status.error_message();
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {  // of the tree of its pieces
    reason = error.what();
  }
  if (!reason.empty())
    return fail(Code::schema, fmt::format("{}: expected SentencePiece's model: {}", file, reason));
  for (int id = 0; id < processor->GetPieceSize(); ++id)
    if (!std::isfinite(processor->GetScore(id)))
      return fail(Code::schema, fmt::format("{}: piece {}: got score {}, expected a number", file,
                                            id, processor->GetScore(id)));
  return processor;
}

}  // namespace

SentencePiece::~SentencePiece() = default;

Result<std::unique_ptr<SentencePiece>> SentencePiece::parse(std::string_view model,
                                                            bool prefix_once,
                                                            const std::string& file) {
  MI_CHECK(check(model, file));
  std::unique_ptr<SentencePiece> pieces(new SentencePiece);
  MI_TRY(pieces->first_, load(model, file));
  if (prefix_once) {
    MI_TRY(pieces->later_, load(std::string(model).append(kNoPrefix), file));
  }
  return pieces;
}

Status SentencePiece::encode(std::span<const std::string_view> words, bool first,
                             std::vector<int32_t>& ids) const {
  const Processor& processor = first || later_ == nullptr ? *first_ : *later_;
  std::vector<int> found;
  for (const std::string_view word : words) {
    const auto status = processor.Encode(word, &found);
    if (!status.ok())
      return fail(Code::unsupported,
                  fmt::format("text: SentencePiece: {}", status.error_message()));
    ids.insert(ids.end(), found.begin(), found.end());
  }
  return {};
}

int SentencePiece::vocab() const {
  return first_->GetPieceSize();
}

std::string SentencePiece::bytes(int32_t id) const {
  const int byte = first_->IsByte(id) ? named_byte(piece(id)) : -1;
  return byte >= 0 ? std::string(1, static_cast<char>(byte)) : without_metaspace(piece(id));
}

const std::string& SentencePiece::piece(int32_t id) const {
  return first_->IdToPiece(id);
}

std::optional<int32_t> SentencePiece::find(std::string_view piece) const {
  const int id = first_->PieceToId(piece);  // of unknown ones, the unknown one's
  return id >= 0 && id < vocab() && this->piece(id) == piece ? std::optional(id) : std::nullopt;
}

bool SentencePiece::is_special(int32_t id) const {
  return first_->IsControl(id) || first_->IsUnknown(id);
}

std::optional<int32_t> SentencePiece::start() const {
  const int id = first_->bos_id();
  return id >= 0 ? std::optional(id) : std::nullopt;
}

}  // namespace mi::search
