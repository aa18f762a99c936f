"""The explorer: which precision of which parameter, searched on the program that ships."""
