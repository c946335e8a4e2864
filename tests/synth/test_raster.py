import numpy as np

from fleetpose.synth.camera import Camera
from fleetpose.synth.raster import no_depth, project, rasterise


def looking_ahead(size=(48, 64)):
    return Camera.looking(
        position=np.array([0.0, 1.0, 0.0]), yaw_rad=0.0, pitch_rad=0.0, roll_rad=0.0, focal=50.0, size=size
    )


def drawn(screen, faces, size=(10, 10)):
    nearness, face_id = no_depth(size)
    rasterise(np.array(screen, np.float32), np.array(faces, np.int32), len(faces), nearness, face_id)
    return nearness, face_id


def test_a_triangle_covers_the_pixels_whose_centres_it_holds():
    _, face_id = drawn([[1.5, 1.5, 1], [5.5, 1.5, 1], [1.5, 5.5, 1]], [[0, 1, 2]])

    ys, xs = np.nonzero(face_id == 0)
    # The slanted edge x + y = 7 counts as inside.
    assert set(zip(xs.tolist(), ys.tolist(), strict=True)) == {
        (x, y) for x in range(2, 6) for y in range(2, 6) if x + y <= 7
    }


def test_both_windings_are_drawn():
    corners = [[1, 1, 1], [8, 1, 1], [1, 8, 1]]

    assert (drawn(corners, [[0, 1, 2]])[1] == drawn(corners, [[0, 2, 1]])[1]).all()


def test_the_nearer_face_wins_whatever_the_order():
    far, near = [[0, 0, 0.5], [9, 0, 0.5], [0, 9, 0.5]], [[0, 0, 0.9], [9, 0, 0.9], [0, 9, 0.9]]

    first = drawn(far + near, [[0, 1, 2], [3, 4, 5]])[1]
    second = drawn(near + far, [[0, 1, 2], [3, 4, 5]])[1]

    assert first[2, 2] == 1
    assert second[2, 2] == 0


def test_a_face_that_reaches_behind_the_camera_is_left_out():
    screen = project(np.array([[0, 1, -2], [1, 1, -2], [0, 1, 2.0]], np.float32), looking_ahead().view())

    _, face_id = drawn(screen, [[0, 1, 2]], (48, 64))

    assert (face_id == -1).all()


def test_compiled_projection_agrees_with_the_camera():
    camera = Camera.looking(
        position=np.array([0.3, 1.4, 2.0]),
        yaw_rad=0.4,
        pitch_rad=-0.2,
        roll_rad=0.1,
        focal=300.0,
        size=(240, 320),
    )
    points = np.random.default_rng(1).uniform(-1, 1, (50, 3)) + np.array([1.5, 1.0, -4.0])

    compiled = project(points.astype(np.float32), camera.view())

    expected = camera.project(points)
    np.testing.assert_allclose(compiled[:, :2], expected[:, :2], atol=0.01)
    np.testing.assert_allclose(1 / compiled[:, 2], expected[:, 2], rtol=1e-5)


def test_a_point_straight_ahead_is_in_the_middle_and_up_is_up():
    camera = looking_ahead()

    seen = camera.project(np.array([[0.0, 1.0, -5.0], [0.0, 2.0, -5.0], [1.0, 1.0, -5.0]]))

    np.testing.assert_allclose(seen[0], [31.5, 23.5, 5.0])
    assert seen[1, 1] < seen[0, 1]
    assert seen[2, 0] > seen[0, 0]


def test_a_scaled_camera_sees_the_same_place_at_the_same_share_of_the_picture():
    camera = looking_ahead()
    point = np.array([[0.7, 1.2, -3.0]])

    fine = camera.scaled(2.0).project(point)[0]

    coarse = camera.project(point)[0]
    np.testing.assert_allclose((fine[:2] + 0.5) / 2 - 0.5, coarse[:2])
