#include "libsearch/report/picture.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "libsearch/report/paint.h"

namespace mi::search {
namespace {

constexpr double kOctaves = 12;
constexpr std::string_view kInk = " .:-=+*#%@";
constexpr int64_t kRows = 12;  // a character is twice as high as wide

// [cells, cells]
std::span<const float> cells_of(const HeadPictures& pictures, HeadPlace place,
                                HeadPictures::Plane plane) {
  const auto area = static_cast<size_t>(pictures.cells * pictures.cells);
  const auto head =
      static_cast<size_t>(place.layer) * static_cast<size_t>(pictures.config.model.heads) +
      static_cast<size_t>(place.head);
  return std::span(pictures.planes[plane]).subspan(head * area, area);
}

// 0 to 1; in mass, 1 is all of a row's on one cell.
double ink_of(double value, HeadPictures::Plane plane) {
  if (plane == HeadPictures::taken || value <= 0) return std::clamp(value, 0.0, 1.0);
  return std::clamp(1 + std::log2(value) / kOctaves, 0.0, 1.0);
}

std::vector<std::string> drawn(const HeadPictures& pictures, HeadPlace place,
                               HeadPictures::Plane plane) {
  const auto cells = cells_of(pictures, place, plane);
  const int64_t rows = std::min(kRows, pictures.cells);
  const int64_t columns = std::min(2 * kRows, pictures.cells);
  std::vector<std::string> lines;
  for (int64_t row = 0; row < rows; ++row) {
    std::string& line = lines.emplace_back();
    const int64_t begin = row * pictures.cells / rows;
    const int64_t end = (row + 1) * pictures.cells / rows;
    for (int64_t column = 0; column < columns; ++column) {
      // Mass adds up over a row; what is taken is a mean over the cells before the diagonal.
      double sum = 0;
      int64_t causal = 0;
      const int64_t left = column * pictures.cells / columns;
      const int64_t right = (column + 1) * pictures.cells / columns;
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = left; c < std::min(right, r + 1); ++c, ++causal)
          sum += static_cast<double>(cells[static_cast<size_t>(r * pictures.cells + c)]);
      const int64_t count = plane == HeadPictures::taken ? causal : end - begin;
      const double ink = causal == 0 ? 0 : ink_of(sum / static_cast<double>(count), plane);
      const auto shade = static_cast<size_t>(std::ceil(ink * static_cast<double>(kInk.size() - 1)));
      line += causal == 0 ? ' ' : kInk[shade];
    }
  }
  return lines;
}

constexpr std::string_view title(HeadPictures::Plane plane) {
  switch (plane) {
    case HeadPictures::mass:
      return "attention mass";
    case HeadPictures::taken:
      return "keys taken";
    case HeadPictures::lost:
      return "mass left out";
  }
  return "";
}

}  // namespace

bool is_drawn_as(const HeadPictures& pictures, const runtime::HeadConfig& config, HeadPlace place) {
  return entry_at(pictures.config, place) == entry_at(config, place) &&
         pictures.config.kernel == config.kernel;
}

std::string picture_text(const ScoreReport& report, const runtime::HeadConfig& config,
                         HeadPlace place, int width) {
  if (!report.pictures) return "";
  const HeadPictures& pictures = *report.pictures;
  std::vector<HeadPictures::Plane> planes = {HeadPictures::mass};
  const bool same = is_drawn_as(pictures, config, place);
  if (same) planes = {HeadPictures::mass, HeadPictures::taken, HeadPictures::lost};
  constexpr size_t kColumn = 2 * kRows + 2;
  const auto fit = static_cast<size_t>(std::max(1, (width - 2) / static_cast<int>(kColumn)));
  planes.resize(std::min(planes.size(), fit));
  std::vector<std::string> lines(1 + static_cast<size_t>(std::min(kRows, pictures.cells)), " ");
  for (const HeadPictures::Plane plane : planes) {
    const auto rows = drawn(pictures, place, plane);
    lines[0] += fmt::format(" {:<{}}", title(plane), kColumn - 1);
    for (size_t r = 0; r < rows.size(); ++r)
      lines[r + 1] += fmt::format("|{:<{}}", rows[r], kColumn - 1);
  }
  const std::string reads =
      fmt::format(", {} tokens: rows of queries downwards, keys to the right\n", pictures.tokens);
  const size_t room =
      static_cast<size_t>(width) - std::min(static_cast<size_t>(width), reads.size());
  std::string out = cut_text(printable(pictures.source), room) + reads;
  for (std::string& line : lines) {
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  if (!same)
    out +=
        "What the pattern takes was drawn for other parameters, those of the "
        "search's\nown config.\n";
  return out;
}

std::string picture_base64(const HeadPictures& pictures, HeadPlace place,
                           HeadPictures::Plane plane) {
  const auto cells = cells_of(pictures, place, plane);
  std::vector<unsigned char> bytes;
  for (int64_t row = 0; row < pictures.cells; ++row)
    for (int64_t column = 0; column <= row; ++column) {
      const auto value =
          static_cast<double>(cells[static_cast<size_t>(row * pictures.cells + column)]);
      bytes.push_back(static_cast<unsigned char>(std::lround(255 * ink_of(value, plane))));
    }
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // with OpenSSL's final 0
  text.resize(static_cast<size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                                  bytes.data(), static_cast<int>(bytes.size()))));
  return text;
}

}  // namespace mi::search
