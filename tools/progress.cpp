#include "tools/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace mi::tools {

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

namespace {

// Nothing is known at the start.
std::string time_text(double fraction, double elapsed) {
  if (fraction <= 0) return "";
  if (fraction >= 1) return duration_text(elapsed);
  return duration_text(elapsed * (1 - fraction) / fraction) + " left";
}

}  // namespace

Progress::Progress() : terminal_(terminal(STDERR_FILENO)), start_(Clock::now()) {}
Progress::~Progress() {
  end_line();
}

void Progress::end_line() {
  if (line_open_) print_note("\n");
  line_open_ = false;
}

void Progress::update(std::string_view stage, double fraction) {
  if (stage != stage_) {
    end_line();
    // The first stage began when this object was made, before its first report.
    if (!stage_.empty()) start_ = Clock::now();
    stage_ = stage;
    last_tenth_ = -1;
  }
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const std::string time = time_text(fraction, elapsed);
  if (terminal_.interactive) {
    const int width = std::clamp(terminal_.width - 45, 5, 40);
    const int filled = static_cast<int>(std::lround(fraction * width));
    print_note(fmt::format("\r{:<7} [{:#<{}}{:.<{}}] {:3.0f}%  {:<22}", stage_, "", filled, "",
                           width - filled, 100 * fraction, time));
    line_open_ = true;
    return;
  }
  const int tenth = static_cast<int>(fraction * 10);
  if (tenth == last_tenth_) return;
  last_tenth_ = tenth;
  print_note(
      fmt::format("{} {:.0f}%{}{}\n", stage_, 100 * fraction, time.empty() ? "" : ", ", time));
}

}  // namespace mi::tools
