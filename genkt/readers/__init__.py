"""Where images and labels are read from: folders, lists, tars, torchvision, Hugging Face."""
