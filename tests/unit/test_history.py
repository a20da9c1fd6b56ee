from opml.core.metrics import TEST_ACCURACY, TRAIN_LOSS, VALID_LOSS, read_history


def test_the_values_of_a_log_get_the_epoch_of_their_line():
    log = f"data: 2 classes\nepoch 1/2: {TRAIN_LOSS.line(0.5)} {VALID_LOSS.line(0.4)} 9 images/s\nepoch 2/2: {TRAIN_LOSS.line(0.25)}"
    assert read_history(log) == [("train:loss", 0.5, 1), ("validation:loss", 0.4, 1), ("train:loss", 0.25, 2)]


def test_the_best_epoch_is_not_counted_twice_and_dates_the_test():
    log = f"epoch 1/2: {VALID_LOSS.line(0.4)}\nepoch 2/2: {VALID_LOSS.line(0.6)}\n"
    log += f"best epoch 1: {VALID_LOSS.line(0.4)}\n{TEST_ACCURACY.line(0.9)}"
    assert read_history(log) == [("validation:loss", 0.4, 1), ("validation:loss", 0.6, 2), ("test:accuracy", 0.9, 1)]


def test_a_log_without_metrics_has_no_history():
    assert read_history("nothing\nto see\n") == []
