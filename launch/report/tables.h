// The report's numbers as tables: CSV and JSON beside the page.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launch/report/report.h"

namespace fwl {

// Cells are texts, numbers, or null where nothing was measured.
struct DataTable {
  std::string name;  // of the file: REPORT.NAME.csv
  std::vector<std::string> columns;
  std::vector<std::vector<nlohmann::json>> rows;
};

// evaluation, breakdowns, learning_curves, gaps, scaling: those that have rows.
std::vector<DataTable> data_tables(const Report& report);
// Comma-separated values as in RFC 4180, with a header; null is an empty cell.
std::string csv_of(const DataTable& table);

}  // namespace fwl
