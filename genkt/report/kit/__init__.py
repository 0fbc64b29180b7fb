"""What every page is made of: charts, tables, sheets of pictures, style."""
