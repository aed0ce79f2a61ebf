"""What a person reads: words for numbers, tables, charts as SVG, pages of HTML."""
