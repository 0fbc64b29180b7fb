"""Images and labels: decoding, folders, torchvision data sets, seeded splits, views and caches."""
