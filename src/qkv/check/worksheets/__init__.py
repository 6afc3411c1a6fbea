"""Worksheets: mathematics worked by hand, judged claim by claim. `syntax` reads them, `judge` judges."""
