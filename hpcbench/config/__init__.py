"""The two files that a user writes, validated: the campaign and the site."""
